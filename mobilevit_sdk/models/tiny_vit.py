"""TinyViT: Fast Pretraining Distillation for Small Vision Transformers.

Wu et al., ECCV 2022, https://arxiv.org/abs/2207.10666. This is the reference form: written to be read and trained.
`mobilevit_sdk.deployment` turns it into the graph that phones run.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, zip_longest
from typing import Annotated, ClassVar, cast

import msgspec
import torch
from msgspec import UNSET, Meta, UnsetType
from torch import Tensor, nn

from mobilevit_sdk.layers import ConvNormAct, NormReader, ResidualStream, StochasticDepth, WindowTransformer
from mobilevit_sdk.layers.window_transformer import WindowTransformerBlock
from mobilevit_sdk.models.backbone import Backbone
from mobilevit_sdk.models.block_widths import BlockWidths, Width
from mobilevit_sdk.models.registry import register_family, register_model
from mobilevit_sdk.spec import ModelConfig, ModelInfo, Preprocessing, Strict, Windows

# Configs come from untrusted files: a network of any config within these limits must build and run.
MAX_WINDOW = 64
Channels = Annotated[int, Meta(ge=2, le=16384)]
Count = Annotated[int, Meta(ge=1, le=64)]
Hidden = Annotated[int, Meta(ge=0, le=1_048_576)]  # 0: the block was removed
Window = Annotated[int, Meta(ge=1, le=MAX_WINDOW)]


class Widths(Strict, frozen=True):
    """All numbers that pruning may change on their own.

    The channels within the stem, the convolutional blocks and the patch mergings, one for each stage but the first; and
    the blocks with attention, stage by stage: a block that was removed is null.
    """

    stem: Width
    convolutional: tuple[Hidden, ...]
    merging: tuple[Width, ...]
    blocks: tuple[tuple[BlockWidths | None, ...], ...]


class TinyViTConfig(ModelConfig, frozen=True):
    """Everything that defines the network. Figure 2 and table 1 of the paper; probabilities default to inference.

    `dims` and `depths` are the channels and the numbers of blocks of the stages. The first stage is convolutional; the
    others attend within windows, whose sides in positions are `window_sizes`. A pruned network has `widths`. Then
    `dims` still counts, but not `head_dim`, `expansion` and `mlp_ratio`.
    """

    windows_when_resized: ClassVar[Windows] = "keep"  # the authors' code and timm pad maps that windows do not fill

    dims: Annotated[tuple[Channels, ...], Meta(min_length=2, max_length=8)]
    depths: tuple[Count, ...] = (2, 2, 6, 2)
    window_sizes: tuple[Window, ...] = (7, 14, 7)
    head_dim: Channels = 32
    expansion: Count = 4
    mlp_ratio: Count = 4
    mlp_dropout: float = 0.0
    stochastic_depth: float = 0.0
    widths: Widths | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.widths is UNSET:
            return
        depths = [len(self.widths.convolutional), *(len(blocks) for blocks in self.widths.blocks)]
        if depths != list(self.depths) or len(self.widths.merging) != len(self.dims) - 1:
            raise ValueError("the widths are not those of the stages")

    def explicit(self) -> TinyViTConfig:
        """The same network with all its widths written out."""
        if self.widths is not UNSET:
            return self
        undivided = [dim for dim in self.dims[1:] if dim % self.head_dim]
        if undivided:
            raise ValueError(f"dim {undivided[0]} is not divisible by head_dim {self.head_dim}")
        blocks = (
            BlockWidths(
                num_heads=dim // self.head_dim,
                key_dim=self.head_dim,
                value_dim=self.head_dim,
                mlp_dim=dim * self.mlp_ratio,
            )
            for dim in self.dims[1:]
        )
        widths = Widths(
            stem=self.dims[0] // 2,
            convolutional=(self.dims[0] * self.expansion,) * self.depths[0],
            merging=self.dims[1:],
            blocks=tuple((block,) * depth for block, depth in zip(blocks, self.depths[1:], strict=True)),
        )
        return msgspec.structs.replace(self, widths=widths)

    @property
    def stride(self) -> int:
        return 4 * 2 ** (len(self.dims) - 1)

    @property
    def native_image_size(self) -> int:
        """The side in pixels of the image whose last feature map is exactly one window."""
        return self.stride * self.window_sizes[-1]

    def at_image_size(self, height: int, width: int) -> TinyViTConfig:
        """The config for images of another size, in pixels: the windows grow and shrink with the shorter side.

        The last feature map of a square image is one window; the others keep their ratio to it, as published:
        7, 14, 7 at 224, 12, 24, 12 at 384, 16, 32, 16 at 512. Raises ValueError for a size that the network cannot
        take.
        """
        super().at_image_size(height, width)
        last, old = -(-min(height, width) // self.stride), self.window_sizes[-1]
        sizes = tuple(max(1, round(size * last / old)) for size in self.window_sizes)
        if max(sizes) > MAX_WINDOW:
            raise ValueError(f"images of {height}x{width} need windows of {max(sizes)}, more than {MAX_WINDOW}")
        return msgspec.structs.replace(self, window_sizes=sizes)


class MBConv(nn.Module):
    """MobileNetV2's block (arXiv 1801.04381) with its last activation after the residual sum.

    Shapes: [B, C, H, W] -> [B, C, H, W].
    """

    def __init__(self, channels: int, hidden: int, *, stochastic_depth: float) -> None:
        super().__init__()
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
    """Between stages: half the resolution, `out_channels`.

    Shapes: [B, in_channels, H, W] -> [B, out_channels, ceil(H / 2), ceil(W / 2)].
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int) -> None:
        super().__init__()
        self.expand = ConvNormAct(in_channels, hidden, 1, activation=nn.GELU)
        self.depthwise = ConvNormAct(hidden, hidden, 3, stride=2, groups=hidden, activation=nn.GELU)
        self.project = ConvNormAct(hidden, out_channels, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.depthwise(self.expand(x)))


class AttentionStage(nn.Module):
    """One resolution with attention. Shapes: [B, in_dim, H, W] -> [B, dim, ceil(H / 2), ceil(W / 2)]."""

    def __init__(
        self,
        downsample: PatchMerging,
        dim: int,
        window_size: int,
        widths: tuple[BlockWidths | None, ...],
        config: TinyViTConfig,
        stochastic_depths: list[float],
    ) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = WindowTransformer()
        for i, (own, p) in enumerate(zip(widths, stochastic_depths, strict=True)):
            if own is not None:  # removed blocks leave gaps in the numbering
                block = WindowTransformerBlock(
                    dim,
                    own.num_heads,
                    own.mlp_dim,
                    window_size,
                    key_dim=own.key_dim,
                    value_dim=own.value_dim,
                    mlp_dropout=config.mlp_dropout,
                    stochastic_depth=p,
                )
                self.blocks.add_module(str(i), block)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))


@register_family("tiny_vit", TinyViTConfig)
class TinyViT(Backbone):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes], any H and W of 32 or more.

    `ModelSpec.preprocessing` describes the input: for the public weights RGB with ImageNet's mean and std.
    """

    head: nn.Linear
    after_map = ("norm", "head")

    def __init__(self, config: TinyViTConfig) -> None:
        super().__init__()
        if not len(config.dims) == len(config.depths) == len(config.window_sizes) + 1:
            raise ValueError("dims and depths must have one entry a stage, window_sizes one for each but the first")
        self.config = config
        widths = config.explicit().widths
        assert widths is not UNSET
        first, dim = config.dims[0], config.dims[-1]
        rates = torch.linspace(0, config.stochastic_depth, sum(config.depths), device="cpu")  # deeper blocks drop more
        drops = [group.tolist() for group in torch.split(rates, list(config.depths))]
        self.stem = nn.Sequential(
            ConvNormAct(config.in_channels, widths.stem, 3, stride=2, activation=nn.GELU),
            ConvNormAct(widths.stem, first, 3, stride=2, activation=None),
        )
        convolutional = nn.Sequential()
        for j, (hidden, p) in enumerate(zip(widths.convolutional, drops[0], strict=True)):
            if hidden:
                convolutional.add_module(str(j), MBConv(first, hidden, stochastic_depth=p))
        self.stages = nn.Sequential(convolutional)
        for i, (in_dim, out_dim) in enumerate(pairwise(config.dims)):
            merging = PatchMerging(in_dim, widths.merging[i], out_dim)
            blocks, window = widths.blocks[i], config.window_sizes[i]
            self.stages.append(AttentionStage(merging, out_dim, window, blocks, config, drops[i + 1]))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, config.num_classes)
        self.apply(_initialize)

    def feature_map(self, x: Tensor) -> Tensor:
        return self.stages(self.stem(x))

    def input_convolution(self) -> nn.Conv2d:
        return cast("ConvNormAct", self.stem[0]).conv

    def pool(self, x: Tensor) -> Tensor:
        return self.norm(super().pool(x))

    def norm_readers(self) -> tuple[NormReader, ...]:
        return (NormReader(self.norm, self.head),) if self.output == "logits" else ()

    def residual_streams(self) -> Iterator[ResidualStream]:
        attention = cast("list[AttentionStage]", list(self.stages)[1:])
        for stage, following in zip_longest(attention, attention[1:]):
            if following is None and self.output == "map":
                return  # the last stream itself is the answer
            blocks = cast("list[WindowTransformerBlock]", list(stage.blocks))
            norms = tuple(norm for block in blocks for norm in (block.norm1, block.norm2))
            yield ResidualStream(
                writers=(
                    stage.downsample.project.conv,
                    *(writer for block in blocks for writer in (block.attention.proj, block.mlp.fc2)),
                ),
                norms=norms if following else (*norms, self.norm),
                readers=(following.downsample.expand.conv,) if following else (),
                within=tuple(block.local_conv.conv for block in blocks),
            )


def _initialize(module: nn.Module) -> None:
    """Truncated normal (std 0.02) for linears, as the authors train."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def _info(top1: float, *, image_size: int = 224) -> ModelInfo:
    enlarged = image_size > 224  # the authors evaluate networks for larger images without a crop
    return ModelInfo(
        paper="https://arxiv.org/abs/2207.10666",
        top1=top1,
        top1_source=f"the authors' model zoo (ImageNet-22k distilled, ImageNet-1k at {image_size}x{image_size})",
        license="MIT (Microsoft Cream)",
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
