"""TinyViT: Fast Pretraining Distillation for Small Vision Transformers.

Wu et al., ECCV 2022, https://arxiv.org/abs/2207.10666. This is the reference form: written to be read and trained.
`mobilevit_sdk.deployment` turns it into the graph that phones run.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from mobilevit_sdk.layers import ConvNormAct, NormReader, StochasticDepth, WindowTransformer
from mobilevit_sdk.layers.window_transformer import WindowTransformerBlock
from mobilevit_sdk.registry import register_family, register_model
from mobilevit_sdk.spec import ModelConfig, ModelInfo, Preprocessing

# Configs are read from files of strangers: building the network of any that passes must end, and it must run.
LARGEST_WINDOW = 64
Width = Annotated[int, Meta(ge=2, le=16384)]
Count = Annotated[int, Meta(ge=1, le=64)]
Window = Annotated[int, Meta(ge=1, le=LARGEST_WINDOW)]


class TinyViTConfig(ModelConfig, frozen=True):
    """Everything that defines the network. Figure 2 and table 1 of the paper; probabilities default to inference.

    `dims` and `depths` name the stages' channels and blocks. The first stage is of convolutions; `window_sizes` belong
    to the others, which attend within windows of so many positions a side.
    """

    dims: Annotated[tuple[Width, ...], Meta(min_length=2, max_length=8)]
    depths: tuple[Count, ...] = (2, 2, 6, 2)
    window_sizes: tuple[Window, ...] = (7, 14, 7)
    head_dim: Width = 32
    expansion: Count = 4
    mlp_ratio: Count = 4
    mlp_dropout: float = 0.0
    stochastic_depth: float = 0.0

    @property
    def stride(self) -> int:
        return 4 * 2 ** (len(self.dims) - 1)

    @property
    def native_image_size(self) -> int:
        """The side in pixels of the image whose last feature map is exactly one window."""
        return self.stride * self.window_sizes[-1]

    def at_image_size(self, height: int, width: int) -> TinyViTConfig:
        """The config for images of another size, in pixels: the windows grow and shrink with the shorter side.

        The last feature map of a square image is one window, the other windows keep their ratio to it, as published:
        7, 14, 7 at 224, 12, 24, 12 at 384, 16, 32, 16 at 512. Raises ValueError for a size that the network cannot
        take.
        """
        super().at_image_size(height, width)
        last, old = -(-min(height, width) // self.stride), self.window_sizes[-1]
        sizes = tuple(max(1, round(size * last / old)) for size in self.window_sizes)
        if max(sizes) > LARGEST_WINDOW:
            raise ValueError(f"images of {height}x{width} need windows of {max(sizes)}, more than {LARGEST_WINDOW}")
        return msgspec.structs.replace(self, window_sizes=sizes)


class MBConv(nn.Module):
    """MobileNetV2's block (arXiv 1801.04381) with its last activation after the residual sum.

    Shapes: [B, C, H, W] -> [B, C, H, W].
    """

    def __init__(self, channels: int, *, expansion: int, stochastic_depth: float) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = ConvNormAct(channels, hidden, 1, activation=nn.GELU)
        self.depthwise = ConvNormAct(hidden, hidden, 3, groups=hidden, activation=nn.GELU)
        self.project = ConvNormAct(hidden, channels, 1, activation=None)
        self.stochastic_depth = StochasticDepth(stochastic_depth)
        self.activation = nn.GELU()
        nn.init.zeros_(self.project.norm.weight)  # training starts from the identity

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return self.activation(x + self.stochastic_depth(y))


class PatchMerging(nn.Module):
    """Between stages: half the resolution, other channels.

    Shapes: [B, in_channels, H, W] -> [B, out_channels, ceil(H / 2), ceil(W / 2)].
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.expand = ConvNormAct(in_channels, out_channels, 1, activation=nn.GELU)
        self.depthwise = ConvNormAct(out_channels, out_channels, 3, stride=2, groups=out_channels, activation=nn.GELU)
        self.project = ConvNormAct(out_channels, out_channels, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.depthwise(self.expand(x)))


class AttentionStage(nn.Module):
    """One resolution with attention. Shapes: [B, in_dim, H, W] -> [B, dim, ceil(H / 2), ceil(W / 2)]."""

    def __init__(
        self, in_dim: int, dim: int, window_size: int, config: TinyViTConfig, stochastic_depths: list[float]
    ) -> None:
        super().__init__()
        if dim % config.head_dim:
            raise ValueError(f"dim {dim} is not divisible by head_dim {config.head_dim}")
        self.downsample = PatchMerging(in_dim, dim)
        self.blocks = WindowTransformer(
            *(
                WindowTransformerBlock(
                    dim,
                    dim // config.head_dim,
                    dim * config.mlp_ratio,
                    window_size,
                    mlp_dropout=config.mlp_dropout,
                    stochastic_depth=p,
                )
                for p in stochastic_depths
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))


@register_family("tiny_vit", TinyViTConfig)
class TinyViT(nn.Module):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes], any H and W of 32 or more.

    The input is what `ModelSpec.preprocessing` describes: for the public weights RGB with ImageNet's mean and std.
    """

    def __init__(self, config: TinyViTConfig) -> None:
        super().__init__()
        if not len(config.dims) == len(config.depths) == len(config.window_sizes) + 1:
            raise ValueError("dims and depths must have one entry a stage, window_sizes one for each but the first")
        self.config = config
        first, dim = config.dims[0], config.dims[-1]
        rates = torch.linspace(0, config.stochastic_depth, sum(config.depths), device="cpu")  # deeper blocks drop more
        drops = [group.tolist() for group in torch.split(rates, list(config.depths))]
        self.stem = nn.Sequential(
            ConvNormAct(config.in_channels, first // 2, 3, stride=2, activation=nn.GELU),
            ConvNormAct(first // 2, first, 3, stride=2, activation=None),
        )
        self.stages = nn.Sequential(
            nn.Sequential(*(MBConv(first, expansion=config.expansion, stochastic_depth=p) for p in drops[0])),
            *(
                AttentionStage(in_dim, out_dim, window_size, config, p)
                for (in_dim, out_dim), window_size, p in zip(
                    pairwise(config.dims), config.window_sizes, drops[1:], strict=True
                )
            ),
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, config.num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x))
        x = x.mean((2, 3), keepdim=True).flatten(1)  # [B, C, H, W] -> [B, C]
        return self.head(self.norm(x))

    def norm_readers(self) -> tuple[NormReader, ...]:
        return (NormReader(self.norm, self.head),)


def _initialise(module: nn.Module) -> None:
    """Truncated normal (std 0.02) for linears, as the authors train."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def _info(top1: float, *, image_size: int = 224) -> ModelInfo:
    enlarged = image_size > 224  # the authors evaluate the networks for larger images without a crop
    return ModelInfo(
        paper="https://arxiv.org/abs/2207.10666",
        top1=top1,
        top1_source=f"the authors' model zoo (ImageNet-22k distilled, ImageNet-1k at {image_size}x{image_size})",
        licence="MIT (Microsoft Cream)",
        preprocessing=Preprocessing(
            image_size=(image_size, image_size),
            resize_size=image_size if enlarged else 256,
            resize_mode="squash" if enlarged else "shorter",
            interpolation="bicubic",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
    )


@register_model(_info(top1=80.7))
def tiny_vit_5m_224() -> TinyViTConfig:
    return TinyViTConfig(dims=(64, 128, 160, 320))


@register_model(_info(top1=83.2))
def tiny_vit_11m_224() -> TinyViTConfig:
    return TinyViTConfig(dims=(64, 128, 256, 448))


@register_model(_info(top1=84.8))
def tiny_vit_21m_224() -> TinyViTConfig:
    return TinyViTConfig(dims=(96, 192, 384, 576))


@register_model(_info(top1=86.2, image_size=384))
def tiny_vit_21m_384() -> TinyViTConfig:
    return TinyViTConfig(dims=(96, 192, 384, 576), window_sizes=(12, 24, 12))


@register_model(_info(top1=86.5, image_size=512))
def tiny_vit_21m_512() -> TinyViTConfig:
    return TinyViTConfig(dims=(96, 192, 384, 576), window_sizes=(16, 32, 16))
