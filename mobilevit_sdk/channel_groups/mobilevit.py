"""Channel groups of MobileViT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import nn

from mobilevit_sdk.channel_groups.blocks import block_groups, stream_slices
from mobilevit_sdk.channel_groups.dispatch import network_blocks, network_groups
from mobilevit_sdk.channel_groups.groups import ChannelGroup, RemovableBlock, located, numbered, reads, writes
from mobilevit_sdk.channel_groups.inverted_stages import AttendingBlock, Stream, removable_blocks_of
from mobilevit_sdk.models.mobilevit import MobileViT, MobileViTBlock


@network_groups.register
def _mobilevit_groups(network: MobileViT) -> Iterator[ChannelGroup]:
    stream = Stream(network.stem)
    yield from stream.along(network.stages, _attending_block)
    assert network.final_conv is not None
    yield stream.end(*reads(network.final_conv))
    final = (*writes(network.final_conv), *reads(network.head))
    yield ChannelGroup((("final_channels",),), "stream", network.head.in_features, (final,), stage="head")


@network_blocks.register
def _mobilevit_blocks(network: MobileViT) -> Iterator[RemovableBlock]:
    return removable_blocks_of(network.stages, _attending_block)


def _attending_block(block: nn.Module, stage: int) -> AttendingBlock:
    block = cast("MobileViTBlock", block)
    return AttendingBlock(
        groups=tuple(_block_groups(block, stage)),
        readers=(*reads(block.local_conv), *reads(block.fuse)),
        writer=block.fuse,
        path=("widths", "fusions", stage, "fused"),
        scale_equivariant=True,
        transformer=block.transformer,
    )


def _block_groups(block: MobileViTBlock, stage: int) -> Iterator[ChannelGroup]:
    name, fusion = f"stage {stage + 1}", ("widths", "fusions", stage)
    local = (*writes(block.local_conv), *reads(block.local_project))
    yield ChannelGroup(((*fusion, "local"),), "fusion", block.local_conv.conv.out_channels, (local,), stage=name)
    stream = (*writes(block.local_project), *writes(block.norm), *reads(block.project))
    for i, layer in numbered(block.transformer).items():
        stream += stream_slices(layer)
        yield from located(block_groups(layer), name, "widths", "transformers", stage, i)
    (dim,) = block.norm.normalized_shape
    yield ChannelGroup((("stages", stage, "dim"),), "stream", dim, (stream,), stage=name)
    attended = block.project.conv.out_channels
    fused = (*writes(block.project), *reads(block.fuse, block.fuse.conv.in_channels - attended))
    yield ChannelGroup(((*fusion, "attended"),), "fusion", attended, (fused,), stage=name)
