"""Channel groups of DETR.

The channels of its tokens stay: positions, which are no weights, have one value for each of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from typing import cast

from torch import nn

from mobilevit_sdk.channel_groups.blocks import block_groups
from mobilevit_sdk.channel_groups.dispatch import network_blocks, network_groups
from mobilevit_sdk.channel_groups.groups import (
    ChannelGroup,
    ChannelSlice,
    RemovableBlock,
    group,
    located,
    numbered,
    reads,
    writes,
)
from mobilevit_sdk.layers import Bottleneck, ConvNormAct, DecoderLayer, EncoderLayer
from mobilevit_sdk.models.detr import DETR


@network_groups.register
def _detr_groups(network: DETR) -> Iterator[ChannelGroup]:
    backbone = network.backbone
    stream, name, size = writes(backbone.stem), "stem", backbone.stem.conv.out_channels
    for i, stage in enumerate(backbone.stages):
        blocks = cast("dict[int, Bottleneck]", numbered(stage))
        shortcut = cast("ConvNormAct", blocks[0].shortcut)
        yield _stream(i, name, size, (*stream, *reads(blocks[0].reduce), *reads(shortcut)))
        stream, name, size = writes(shortcut), f"stage {i + 1}", shortcut.conv.out_channels
        for j, block in blocks.items():
            yield from located(block_groups(block), name, "widths", "bottlenecks", i, j)
            stream += (*writes(block.expand), *(reads(block.reduce) if j else ()))
    yield _stream(len(backbone.stages), name, size, (*stream, *reads(network.projection)))
    for part in ("encoder", "decoder"):
        for i, layer in numbered(getattr(network.transformer, part)).items():
            yield from located(block_groups(layer), f"{part} {i}", "widths", part, i)
    linears = [layer for layer in network.box_head if isinstance(layer, nn.Linear)]
    for i, (writer, reader) in enumerate(pairwise(linears)):
        hidden = (*writes(writer), *reads(reader))
        yield ChannelGroup((("widths", "box_head", i),), "FFN", writer.out_features, (hidden,), stage="head")


def _stream(index: int, stage: str, size: int, slices: tuple[ChannelSlice, ...]) -> ChannelGroup:
    return ChannelGroup((("widths", "stages", index),), "stream", size, (slices,), stage=stage, scale_equivariant=True)


@network_blocks.register
def _detr_blocks(network: DETR) -> Iterator[RemovableBlock]:
    """All but the first of each stage, of the encoder and of the decoder."""
    for i, stage in enumerate(network.backbone.stages):
        for j, block in numbered(stage).items():
            if j:
                yield RemovableBlock(("widths", "bottlenecks", i, j), None, block, f"stage {i + 1}")
    for part in ("encoder", "decoder"):
        for i, layer in numbered(getattr(network.transformer, part)).items():
            if i:
                yield RemovableBlock(("widths", part, i), None, layer, f"{part} {i}")


@block_groups.register
def _bottleneck(block: Bottleneck) -> Iterator[ChannelGroup]:
    for name, writer, reader in (("reduce", block.reduce, block.conv), ("conv", block.conv, block.expand)):
        within = (*writes(writer), *reads(reader))
        yield group("bottleneck", writer.conv.out_channels, within, name=name, scale_equivariant=True)


@block_groups.register
def _encoder_layer(layer: EncoderLayer) -> Iterator[ChannelGroup]:
    yield from block_groups(layer.attention)
    yield from block_groups(layer.mlp)


@block_groups.register
def _decoder_layer(layer: DecoderLayer) -> Iterator[ChannelGroup]:
    for name in ("attention", "cross_attention"):
        for each in block_groups(getattr(layer, name)):
            yield dataclasses.replace(each, paths=tuple((name, *path) for path in each.paths))
    yield from block_groups(layer.mlp)
