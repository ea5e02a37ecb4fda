"""EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention.

Liu et al., CVPR 2023, https://arxiv.org/abs/2305.07027 (Microsoft; MIT has a model of the same name). This is the
reference form: written to be read and trained. `mobilevit_sdk.deployment` turns it into the graph that phones run.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType
from torch import Tensor, nn

from mobilevit_sdk.channel_groups.groups import Block, Slice, Width, located, reads, shifted, writes
from mobilevit_sdk.layers import BatchNormClassifier, CascadedGroupAttention, ConvNormAct, Residual
from mobilevit_sdk.layers.sandwich import PatchMerging, Sandwich
from mobilevit_sdk.models.registry import register_family, register_model
from mobilevit_sdk.spec import ModelConfig, ModelInfo, Preprocessing, Strict

# Configs are read from files of strangers: building the network of any that passes must end, and it must run.
Count = Annotated[int, Meta(ge=1, le=64)]
MAX_WINDOW = 32
WindowSize = Annotated[int, Meta(ge=1, le=MAX_WINDOW)]
Channels = Annotated[int, Meta(ge=1, le=65536)]

_PATCH_SIZE = 16  # four convolutions of stride 2


class StageConfig(Strict, frozen=True):
    """One resolution: from the second stage on it begins with a downsampling by 2, then come its blocks."""

    channels: Annotated[int, Meta(ge=8, le=16384)]
    blocks: Count
    num_heads: Count


class BlockWidths(Strict, frozen=True):
    """A sandwich with attention: channels within its FFNs, key_dim of a head, and which of the heads are there."""

    ffn0: Channels
    key_dim: Channels
    heads: Annotated[tuple[Annotated[int, Meta(ge=0, le=63)], ...], Meta(min_length=1)]
    ffn1: Channels

    def __post_init__(self) -> None:
        if sorted(set(self.heads)) != list(self.heads):
            raise ValueError(f"heads must be increasing, not {list(self.heads)}")


class DownsampleWidths(Strict, frozen=True):
    """A downsampling: channels within its FFNs, its inverted residual, and its squeeze-excitation."""

    ffn0: Channels
    hidden: Channels
    squeezed: Channels
    ffn1: Channels


class Widths(Strict, frozen=True):
    """All that a pruned network has in numbers of its own. A block that is null is gone.

    `patch_embed` has the first three convolutions' channels, `downsample` one entry for each stage but the first.
    """

    patch_embed: tuple[Channels, Channels, Channels]
    downsample: tuple[DownsampleWidths, ...]
    blocks: tuple[tuple[BlockWidths | None, ...], ...]


class EfficientViTConfig(ModelConfig, frozen=True):
    """Everything that defines the network (figure 6a of the paper); probabilities default to inference.

    `kernels` are those of token interaction, one a head. `window_sizes` are the stages' windows, in positions: the
    shorter side of the stage's feature map, `max_window_size` at most. `distilled` adds a second classifier. `widths`
    are what pruning has left, where it has: beside them, the stages' channels alone count.
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
        nn.init.zeros_(depthwise.norm.weight)  # as in FFN; those beside a downsampling start with a gain of 1
    return block


@register_family("efficientvit", EfficientViTConfig)
class EfficientViT(nn.Module):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes].

    The input is what `ModelSpec.preprocessing` describes. H and W are those of `config.at_image_size`, or larger: maps
    are padded to multiples of the windows. Smaller ones raise ValueError. A distilled network answers with the mean of
    its two classifiers, of which one learned from labels and one from a teacher.
    """

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
            for j, left in enumerate(widths.blocks[i]):
                if left is not None:  # a block that is gone leaves the names of the others as they were
                    blocks.add_module(str(j), _block(stage, left, window_size, config))
            layers.add_module("blocks", blocks)
            self.stages.append(layers)
        self.head = BatchNormClassifier(channels, config.num_classes, distilled=config.distilled)
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.patch_embed(x))
        x = x.mean((2, 3), keepdim=True).flatten(1)  # [B, C, H, W] -> [B, C]
        return self.head(x)

    def widths(self) -> Iterator[Width]:
        embeds = [cast("ConvNormAct", layer) for layer in self.patch_embed]
        for i, (one, following) in enumerate(pairwise(embeds)):
            channels = (*writes(one), *reads(following))
            path = ("widths", "patch_embed", i)
            yield Width((path,), "stream", one.conv.out_channels, (channels,), stage="stem", scale_equivariant=True)
        for i, name in enumerate(self._names()):
            yield self._stream(i, name)
            downsample, blocks = self._stage(i)
            if downsample is not None:
                yield from located(downsample.widths(), name, "widths", "downsample", i - 1)
            for j, block in blocks.items():
                yield from located(block.widths(), name, "widths", "blocks", i, j)

    def removable_blocks(self) -> Iterator[Block]:
        for i, name in enumerate(self._names()):
            for j, block in self._stage(i)[1].items():
                if j:
                    yield Block(("widths", "blocks", i, j), None, block, name)

    def _names(self) -> list[str]:
        return [f"stage {i + 1}" for i in range(len(self.stages))]

    def _stage(self, i: int) -> tuple[Sandwich | None, dict[int, Sandwich]]:
        """The stage's downsampling, and its blocks by their number."""
        layers = dict(self.stages[i].named_children())
        blocks = {int(name): cast("Sandwich", block) for name, block in layers["blocks"].named_children()}
        return cast("Sandwich | None", layers.get("downsample")), blocks

    def _stream(self, i: int, name: str) -> Width:
        """The stage's channels: those of each head's group for themselves, and answers that no other head reads."""
        stage = self.config.stages[i]
        downsample, blocks = self._stage(i)
        if downsample is None:
            throughout = writes(cast("ConvNormAct", self.patch_embed[-1]))
        else:
            assert isinstance(downsample.mixer, PatchMerging)
            throughout = (*writes(downsample.mixer.project), *downsample.on_stream_after())
        for block in blocks.values():
            throughout += (*block.on_stream_before(), *block.on_stream_after())
        if i + 1 < len(self.stages):
            following = self._stage(i + 1)[0]
            assert following is not None
            assert isinstance(following.mixer, PatchMerging)
            throughout += (*following.on_stream_before(), *reads(following.mixer.expand))
        else:
            throughout += self.head.on_stream()
        groups, size = stage.num_heads, stage.channels // stage.num_heads
        parts = [shifted(throughout, group * size) for group in range(groups)]
        unread: list[tuple[Slice, ...]] = []
        for block in blocks.values():
            assert isinstance(block.mixer, Residual)
            attention = cast("CascadedGroupAttention", block.mixer.branch).on_stream()
            parts = [own + other for own, other in zip(parts, attention[:groups], strict=True)]
            unread += attention[groups:]
        path, least = ("stages", i, "channels"), -(-8 // groups)
        parts += unread
        return Width(
            (path,),
            "stream",
            size,
            tuple(parts),
            minimum=least,
            scale=groups,
            rows=groups,
            stage=name,
            scale_equivariant=True,
        )


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
