"""EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention.

Liu et al., CVPR 2023, https://arxiv.org/abs/2305.07027 (Microsoft; MIT has a model of the same name). This is the
reference form: written to be read and trained. `mobilevit_sdk.deployment` turns it into the graph that phones run.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType
from torch import Tensor, nn

from mobilevit_sdk.layers import BatchNormClassifier, CascadedGroupAttention, ConvNormAct, Residual
from mobilevit_sdk.layers.sandwich import PatchMerging, Sandwich
from mobilevit_sdk.models.backbone import Backbone
from mobilevit_sdk.models.registry import register_family, register_model
from mobilevit_sdk.spec import ModelConfig, ModelInfo, Preprocessing, Strict

# Configs come from untrusted files: a network of any config within these limits must build and run.
Count = Annotated[int, Meta(ge=1, le=64)]
MAX_WINDOW = 32
WindowSize = Annotated[int, Meta(ge=1, le=MAX_WINDOW)]
Channels = Annotated[int, Meta(ge=1, le=65536)]

_PATCH_SIZE = 16  # four convolutions of stride 2


class StageConfig(Strict, frozen=True):
    """One resolution: blocks, which follow a downsampling by 2 from the second stage on."""

    channels: Annotated[int, Meta(ge=8, le=16384)]
    blocks: Count
    num_heads: Count


class BlockWidths(Strict, frozen=True):
    """Of a sandwich with attention: channels within its FFNs, key_dim of a head, and the positions of its heads."""

    ffn0: Channels
    key_dim: Channels
    heads: Annotated[tuple[Annotated[int, Meta(ge=0, le=63)], ...], Meta(min_length=1)]
    ffn1: Channels

    def __post_init__(self) -> None:
        if sorted(set(self.heads)) != list(self.heads):
            raise ValueError(f"heads must be increasing, not {list(self.heads)}")


class DownsampleWidths(Strict, frozen=True):
    """Of a downsampling: channels within its FFNs, its inverted residual, and its squeeze-excitation."""

    ffn0: Channels
    hidden: Channels
    squeezed: Channels
    ffn1: Channels


class Widths(Strict, frozen=True):
    """All numbers that pruning may change on their own. A block that was removed is null.

    `patch_embed`: the channels of the first three convolutions. `downsample`: one entry for each stage but the first.
    """

    patch_embed: tuple[Channels, Channels, Channels]
    downsample: tuple[DownsampleWidths, ...]
    blocks: tuple[tuple[BlockWidths | None, ...], ...]


class EfficientViTConfig(ModelConfig, frozen=True):
    """Everything that defines the network (figure 6a of the paper); probabilities default to inference.

    `kernels` are those of token interaction, one a head. `window_sizes` are the sides of the stages' windows, in
    positions: the shorter side of the stage's feature map, at most `max_window_size`. `distilled` adds a second
    classifier. A pruned network has `widths`. Then `key_dim` does not count; the channels and `num_heads` of the stages
    still do.
    """

    stages: Annotated[tuple[StageConfig, ...], Meta(min_length=1, max_length=8)]
    kernels: tuple[Count, ...]
    window_sizes: tuple[WindowSize, ...] = (7, 7, 4)
    max_window_size: WindowSize = 7
    key_dim: Annotated[int, Meta(ge=1, le=1024)] = 16
    distilled: bool = False
    stochastic_depth: float = 0.0
    widths: Widths | UnsetType = UNSET

    def __post_init__(self) -> None:
        if len(self.window_sizes) != len(self.stages):
            raise ValueError(f"{len(self.window_sizes)} window_sizes for {len(self.stages)} stages")
        heads = max(stage.num_heads for stage in self.stages)
        if len(self.kernels) < heads:
            raise ValueError(f"{len(self.kernels)} kernels for {heads} heads")
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"kernels must be odd, not {list(self.kernels)}")
        if self.widths is not UNSET:
            _check_widths(self.stages, self.widths)

    def explicit(self) -> EfficientViTConfig:
        """The same network with all its widths written out."""
        if self.widths is not UNSET:
            return self
        first = self.stages[0].channels
        before = [stage.channels for stage in self.stages]
        widths = Widths(
            patch_embed=(first // 8, first // 4, first // 2),
            downsample=tuple(
                DownsampleWidths(ffn0=2 * channels, hidden=4 * channels, squeezed=_squeezed(channels), ffn1=2 * after)
                for channels, after in pairwise(before)
            ),
            blocks=tuple(
                (
                    BlockWidths(
                        ffn0=2 * stage.channels,
                        key_dim=self.key_dim,
                        heads=tuple(range(stage.num_heads)),
                        ffn1=2 * stage.channels,
                    ),
                )
                * stage.blocks
                for stage in self.stages
            ),
        )
        return msgspec.structs.replace(self, widths=widths)

    def check_image_size(self, height: int, width: int) -> None:
        super().check_image_size(height, width)
        filled = self.at_image_size(height, width).window_sizes
        if any(window > most for window, most in zip(self.window_sizes, filled, strict=True)):
            windows, maps = (", ".join(map(str, sizes)) for sizes in (self.window_sizes, filled))
            raise ValueError(f"images of {height}x{width} fill windows of {maps}, not the network's {windows}")

    @property
    def stride(self) -> int:
        return _PATCH_SIZE * 2 ** (len(self.stages) - 1)

    def at_image_size(self, height: int, width: int) -> EfficientViTConfig:
        """The config for images of another size, in pixels: each window follows the shorter side of its map.

        It is as long, up to `max_window_size`: at 224x224, maps of 14, 7 and 4 positions have windows of 7, 7 and 4.
        Raises ValueError for a size that the network cannot take.
        """
        super().at_image_size(height, width)
        shorter = -(-min(height, width) // _PATCH_SIZE)
        window_sizes = []
        for _ in self.stages:
            window_sizes.append(min(shorter, self.max_window_size))
            shorter = -(-shorter // 2)
        return msgspec.structs.replace(self, window_sizes=tuple(window_sizes))


def _check_widths(stages: tuple[StageConfig, ...], widths: Widths) -> None:
    if len(widths.downsample) != len(stages) - 1 or len(widths.blocks) != len(stages):
        raise ValueError(f"the widths are not those of {len(stages)} stages")
    for stage, blocks in zip(stages, widths.blocks, strict=True):
        if len(blocks) != stage.blocks:
            raise ValueError(f"widths of {len(blocks)} blocks for a stage of {stage.blocks}")
        if any(max(block.heads) >= stage.num_heads for block in blocks if block is not None):
            raise ValueError(f"heads beyond the {stage.num_heads} of their stage")


def _squeezed(channels: int) -> int:
    """A quarter of the channels within a downsampling of `channels`, rounded to a multiple of 8."""
    return max(8, (channels + 4) // 8 * 8)


def _block(stage: StageConfig, widths: BlockWidths, window_size: int, config: EfficientViTConfig) -> Sandwich:
    dim, depth = stage.channels, config.stochastic_depth
    kernels = config.kernels[: stage.num_heads]
    attention = CascadedGroupAttention(
        dim, window_size, key_dim=widths.key_dim, kernels=kernels, positions=widths.heads
    )
    hidden = widths.ffn0, widths.ffn1
    block = Sandwich(dim, Residual(attention, depth), dim, hidden=hidden, stochastic_depth=depth)
    for depthwise in (block.dw0.branch, block.dw1.branch):
        assert isinstance(depthwise, ConvNormAct)
        nn.init.zeros_(depthwise.norm.weight)  # as in FFN; in a downsampling they start with a gain of 1
    return block


@register_family("efficientvit", EfficientViTConfig)
class EfficientViT(Backbone):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes].

    `ModelSpec.preprocessing` describes the input. H and W are those of `config.at_image_size`, or larger: maps are
    padded to multiples of the windows. Smaller images raise ValueError. A distilled network returns the mean of two
    classifiers, one that learned from labels and one that learned from a teacher.
    """

    head: BatchNormClassifier

    def __init__(self, config: EfficientViTConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.explicit().widths
        assert widths is not UNSET
        channels = config.stages[0].channels
        sizes = (config.in_channels, *widths.patch_embed, channels)
        convs = [ConvNormAct(a, b, 3, stride=2, activation=nn.ReLU) for a, b in pairwise(sizes[:-1])]
        self.patch_embed = nn.Sequential(*convs, ConvNormAct(sizes[-2], channels, 3, stride=2, activation=None))
        self.stages = nn.Sequential()
        for i, (stage, window_size) in enumerate(zip(config.stages, config.window_sizes, strict=True)):
            layers = nn.Sequential()
            if i:
                own = widths.downsample[i - 1]
                merging = PatchMerging(channels, stage.channels, own.hidden, own.squeezed)
                hidden, depth = (own.ffn0, own.ffn1), config.stochastic_depth
                downsample = Sandwich(channels, merging, stage.channels, hidden=hidden, stochastic_depth=depth)
                layers.add_module("downsample", downsample)
            channels = stage.channels
            blocks = nn.Sequential()
            for j, block in enumerate(widths.blocks[i]):
                if block is not None:  # removed blocks leave gaps in the numbering
                    blocks.add_module(str(j), _block(stage, block, window_size, config))
            layers.add_module("blocks", blocks)
            self.stages.append(layers)
        self.head = BatchNormClassifier(channels, config.num_classes, distilled=config.distilled)
        self.apply(_initialize)

    def feature_map(self, x: Tensor) -> Tensor:
        return self.stages(self.patch_embed(x))

    def input_convolution(self) -> nn.Conv2d:
        return cast("ConvNormAct", self.patch_embed[0]).conv


def _initialize(module: nn.Module) -> None:
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
        license="MIT (Microsoft Cream)",
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
