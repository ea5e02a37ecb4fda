"""EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention.

Liu et al., CVPR 2023, https://arxiv.org/abs/2305.07027 (Microsoft; MIT has a model of the same name). This is the
reference form: written to be read and trained. `mobilevit_sdk.deployment` turns it into the graph that phones run.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from torch import Tensor, nn

from mobilevit_sdk.layers import (
    BatchNormClassifier,
    CascadedGroupAttention,
    ConvNormAct,
    Residual,
    SqueezeExcite,
)
from mobilevit_sdk.registry import register_family, register_model
from mobilevit_sdk.spec import ModelConfig, ModelInfo, Preprocessing, Strict

# Configs are read from files of strangers: building the network of any that passes must end, and it must run.
Count = Annotated[int, Meta(ge=1, le=64)]
LARGEST_WINDOW = 32
WindowSize = Annotated[int, Meta(ge=1, le=LARGEST_WINDOW)]

_PATCH_SIZE = 16  # four convolutions of stride 2


class StageConfig(Strict, frozen=True):
    """One resolution: from the second stage on it begins with a downsampling by 2, then come its blocks."""

    channels: Annotated[int, Meta(ge=8, le=16384)]
    blocks: Count
    num_heads: Count


class EfficientViTConfig(ModelConfig, frozen=True):
    """Everything that defines the network (figure 6a of the paper); probabilities default to inference.

    `kernels` are those of token interaction, one a head. `window_sizes` are the stages' windows, in positions: the
    shorter side of the stage's feature map, `max_window_size` at most. `distilled` adds a second classifier.
    """

    stages: Annotated[tuple[StageConfig, ...], Meta(min_length=1, max_length=8)]
    kernels: tuple[Count, ...]
    window_sizes: tuple[WindowSize, ...] = (7, 7, 4)
    max_window_size: WindowSize = 7
    key_dim: Annotated[int, Meta(ge=1, le=1024)] = 16
    distilled: bool = False
    stochastic_depth: float = 0.0

    def __post_init__(self) -> None:
        if len(self.window_sizes) != len(self.stages):
            raise ValueError(f"{len(self.window_sizes)} window_sizes for {len(self.stages)} stages")
        heads = max(stage.num_heads for stage in self.stages)
        if len(self.kernels) < heads:
            raise ValueError(f"{len(self.kernels)} kernels for {heads} heads")
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"kernels must be odd, not {list(self.kernels)}")

    @property
    def stride(self) -> int:
        return _PATCH_SIZE * 2 ** (len(self.stages) - 1)

    def at_image_size(self, height: int, width: int) -> EfficientViTConfig:
        """The config for images of another size, in pixels: a window is the shorter side of its map, or the maximum.

        At 224x224 maps of 14, 7 and 4 positions have windows of 7, 7 and 4. Raises ValueError for a size that the
        network cannot take.
        """
        super().at_image_size(height, width)
        shorter = -(-min(height, width) // _PATCH_SIZE)
        window_sizes = []
        for _ in self.stages:
            window_sizes.append(min(shorter, self.max_window_size))
            shorter = -(-shorter // 2)
        return msgspec.structs.replace(self, window_sizes=tuple(window_sizes))


class FFN(nn.Module):
    """Two 1x1 convolutions with twice the channels between them. Shapes: [B, dim, H, W] -> [B, dim, H, W]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand = ConvNormAct(dim, 2 * dim, 1, activation=nn.ReLU)
        self.project = ConvNormAct(2 * dim, dim, 1, activation=None)
        nn.init.zeros_(self.project.norm.weight)  # training starts from the identity

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.expand(x))


class PatchMerging(nn.Module):
    """An inverted residual of expansion 4, with squeeze-excitation, that halves the resolution.

    Shapes: [B, in_channels, H, W] -> [B, out_channels, ceil(H / 2), ceil(W / 2)].
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = 4 * in_channels
        self.expand = ConvNormAct(in_channels, hidden, 1, activation=nn.ReLU)
        self.depthwise = ConvNormAct(hidden, hidden, 3, stride=2, groups=hidden, activation=nn.ReLU)
        squeezed = max(8, (in_channels + 4) // 8 * 8)  # a quarter of hidden, rounded to a multiple of 8
        self.squeeze_excite = SqueezeExcite(hidden, squeezed)
        self.project = ConvNormAct(hidden, out_channels, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.squeeze_excite(self.depthwise(self.expand(x))))


class Sandwich(nn.Module):
    """Figure 6b: a mixer between depthwise convolutions and FFNs, all of them residual but perhaps the mixer.

    Shapes: [B, in_channels, H, W] -> [B, out_channels, H', W'], H' and W' being what the mixer makes of H and W.
    """

    def __init__(self, in_channels: int, mixer: nn.Module, out_channels: int, stochastic_depth: float) -> None:
        super().__init__()
        self.dw0 = Residual(_depthwise(in_channels), stochastic_depth)
        self.ffn0 = Residual(FFN(in_channels), stochastic_depth)
        self.mixer = mixer
        self.dw1 = Residual(_depthwise(out_channels), stochastic_depth)
        self.ffn1 = Residual(FFN(out_channels), stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn1(self.dw1(self.mixer(self.ffn0(self.dw0(x)))))


def _block(dim: int, num_heads: int, window_size: int, config: EfficientViTConfig) -> Sandwich:
    attention = CascadedGroupAttention(dim, window_size, key_dim=config.key_dim, kernels=config.kernels[:num_heads])
    block = Sandwich(dim, Residual(attention, config.stochastic_depth), dim, config.stochastic_depth)
    for depthwise in (block.dw0.branch, block.dw1.branch):
        assert isinstance(depthwise, ConvNormAct)
        nn.init.zeros_(depthwise.norm.weight)  # as in FFN; those beside a downsampling start with a gain of 1
    return block


def _depthwise(channels: int) -> ConvNormAct:
    return ConvNormAct(channels, channels, 3, groups=channels, activation=None)


@register_family("efficientvit", EfficientViTConfig)
class EfficientViT(nn.Module):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes].

    The input is what `ModelSpec.preprocessing` describes. H and W are those of `config.at_image_size`, or larger: maps
    are padded to multiples of the windows. Smaller ones raise ValueError. A distilled network answers with the mean of
    its two classifiers, of which one learnt from labels and one from a teacher.
    """

    def __init__(self, config: EfficientViTConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.stages[0].channels
        self.patch_embed = nn.Sequential(
            ConvNormAct(config.in_channels, channels // 8, 3, stride=2, activation=nn.ReLU),
            ConvNormAct(channels // 8, channels // 4, 3, stride=2, activation=nn.ReLU),
            ConvNormAct(channels // 4, channels // 2, 3, stride=2, activation=nn.ReLU),
            ConvNormAct(channels // 2, channels, 3, stride=2, activation=None),
        )
        self.stages = nn.Sequential()
        for stage, window_size in zip(config.stages, config.window_sizes, strict=True):
            layers = nn.Sequential()
            if len(self.stages):
                merging = PatchMerging(channels, stage.channels)
                layers.add_module("downsample", Sandwich(channels, merging, stage.channels, config.stochastic_depth))
            channels = stage.channels
            blocks = (_block(channels, stage.num_heads, window_size, config) for _ in range(stage.blocks))
            layers.add_module("blocks", nn.Sequential(*blocks))
            self.stages.append(layers)
        self.head = BatchNormClassifier(channels, config.num_classes, distilled=config.distilled)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.patch_embed(x))
        x = x.mean((2, 3), keepdim=True).flatten(1)  # [B, C, H, W] -> [B, C]
        return self.head(x)


def _initialise(module: nn.Module) -> None:
    """Truncated normal (std 0.02) for linears, as the authors train."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def _config(
    channels: tuple[int, ...], blocks: tuple[int, ...], num_heads: tuple[int, ...], kernels: tuple[int, ...]
) -> EfficientViTConfig:
    stages = (
        StageConfig(channels=c, blocks=n, num_heads=h) for c, n, h in zip(channels, blocks, num_heads, strict=True)
    )
    return EfficientViTConfig(stages=tuple(stages), kernels=kernels)


def _info(top1: float) -> ModelInfo:
    return ModelInfo(
        paper="https://arxiv.org/abs/2305.07027",
        top1=top1,
        top1_source="the authors' model zoo (ImageNet-1k at 224x224)",
        licence="MIT (Microsoft Cream)",
        preprocessing=Preprocessing(
            image_size=(224, 224),
            resize_size=256,
            interpolation="bicubic",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
    )


@register_model(_info(top1=63.2))
def efficientvit_m0() -> EfficientViTConfig:
    return _config((64, 128, 192), (1, 2, 3), (4, 4, 4), kernels=(5, 5, 5, 5))


@register_model(_info(top1=68.4))
def efficientvit_m1() -> EfficientViTConfig:
    return _config((128, 144, 192), (1, 2, 3), (2, 3, 3), kernels=(7, 5, 3, 3))


@register_model(_info(top1=70.8))
def efficientvit_m2() -> EfficientViTConfig:
    return _config((128, 192, 224), (1, 2, 3), (4, 3, 2), kernels=(7, 5, 3, 3))


@register_model(_info(top1=73.4))
def efficientvit_m3() -> EfficientViTConfig:
    return _config((128, 240, 320), (1, 2, 3), (4, 3, 4), kernels=(5, 5, 5, 5))


@register_model(_info(top1=74.3))
def efficientvit_m4() -> EfficientViTConfig:
    return _config((128, 256, 384), (1, 2, 3), (4, 4, 4), kernels=(7, 5, 3, 3))


@register_model(_info(top1=77.1))
def efficientvit_m5() -> EfficientViTConfig:
    return _config((192, 288, 384), (1, 3, 4), (3, 3, 4), kernels=(7, 5, 3, 3))
