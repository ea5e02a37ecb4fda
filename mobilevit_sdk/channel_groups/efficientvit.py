"""Channel groups of EfficientViT."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import cast

from mobilevit_sdk.channel_groups.blocks import (
    block_groups,
    cascade_stream,
    stream_after_mixer,
    stream_before_mixer,
    stream_slices,
)
from mobilevit_sdk.channel_groups.dispatch import network_blocks, network_groups
from mobilevit_sdk.channel_groups.groups import (
    ChannelGroup,
    ChannelSlice,
    RemovableBlock,
    located,
    numbered,
    reads,
    shifted,
    writes,
)
from mobilevit_sdk.layers import CascadedGroupAttention, ConvNormAct, Residual
from mobilevit_sdk.layers.sandwich import PatchMerging, Sandwich
from mobilevit_sdk.models.efficientvit import EfficientViT

_MIN_CHANNELS = 8  # of a stage, as its config wants


@network_groups.register
def _efficientvit_groups(network: EfficientViT) -> Iterator[ChannelGroup]:
    embedding = [cast("ConvNormAct", layer) for layer in network.patch_embed]
    for i, (layer, following) in enumerate(pairwise(embedding)):
        channels = (*writes(layer), *reads(following))
        path, size = ("widths", "patch_embed", i), layer.conv.out_channels
        yield ChannelGroup((path,), "stream", size, (channels,), stage="stem", scale_equivariant=True)
    for i in range(len(network.stages)):
        name = f"stage {i + 1}"
        yield _stream(network, i, name)
        downsample, blocks = _stage(network, i)
        if downsample is not None:
            yield from located(block_groups(downsample), name, "widths", "downsample", i - 1)
        for j, block in blocks.items():
            yield from located(block_groups(block), name, "widths", "blocks", i, j)


@network_blocks.register
def _efficientvit_blocks(network: EfficientViT) -> Iterator[RemovableBlock]:
    """All but the first of each stage."""
    for i in range(len(network.stages)):
        for j, block in _stage(network, i)[1].items():
            if j:
                yield RemovableBlock(("widths", "blocks", i, j), None, block, f"stage {i + 1}")


def _stage(network: EfficientViT, i: int) -> tuple[Sandwich | None, dict[int, Sandwich]]:
    """The stage's downsampling, and its blocks by their numbers."""
    layers = dict(network.stages[i].named_children())
    blocks = cast("dict[int, Sandwich]", numbered(layers["blocks"]))
    return cast("Sandwich | None", layers.get("downsample")), blocks


def _stream(network: EfficientViT, i: int, name: str) -> ChannelGroup:
    """The stage's channels: a part for each head's group of them, and one for each output that no other head reads."""
    stage = network.config.stages[i]
    downsample, blocks = _stage(network, i)
    if downsample is None:
        throughout = writes(cast("ConvNormAct", network.patch_embed[-1]))
    else:
        merging = cast("PatchMerging", downsample.mixer)
        throughout = (*writes(merging.project), *stream_after_mixer(downsample))
    for block in blocks.values():
        throughout += (*stream_before_mixer(block), *stream_after_mixer(block))
    if i + 1 < len(network.stages):
        following = cast("Sandwich", _stage(network, i + 1)[0])
        throughout += (*stream_before_mixer(following), *reads(cast("PatchMerging", following.mixer).expand))
    else:
        throughout += stream_slices(network.head)
    groups, size = stage.num_heads, stage.channels // stage.num_heads
    parts = [shifted(throughout, number * size) for number in range(groups)]
    unread: list[tuple[ChannelSlice, ...]] = []
    for block in blocks.values():
        attention = cast("CascadedGroupAttention", cast("Residual", block.mixer).branch)
        slices = cascade_stream(attention)
        parts = [own + other for own, other in zip(parts, slices[:groups], strict=True)]
        unread += slices[groups:]
    return ChannelGroup(
        (("stages", i, "channels"),),
        "stream",
        size,
        (*parts, *unread),
        minimum=-(-_MIN_CHANNELS // groups),
        scale=groups,
        rows=groups,
        stage=name,
        scale_equivariant=True,
    )
