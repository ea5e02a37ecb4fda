"""Channel groups of MobileViTv2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import nn

from mobilevit_sdk.channel_groups.blocks import block_groups, stream_slices
from mobilevit_sdk.channel_groups.dispatch import network_blocks, network_groups
from mobilevit_sdk.channel_groups.groups import ChannelGroup, RemovableBlock, located, numbered, reads, writes
from mobilevit_sdk.channel_groups.inverted_stages import AttendingBlock, Stream, removable_blocks_of
from mobilevit_sdk.models.mobilevitv2 import MobileViTv2, MobileViTv2Block


@network_groups.register
def _mobilevitv2_groups(network: MobileViTv2) -> Iterator[ChannelGroup]:
    stream = Stream(network.stem)
    yield from stream.along(network.stages, _attending_block)
    yield stream.end(*reads(network.head))


@network_blocks.register
def _mobilevitv2_blocks(network: MobileViTv2) -> Iterator[RemovableBlock]:
    return removable_blocks_of(network.stages, _attending_block)


def _attending_block(block: nn.Module, stage: int) -> AttendingBlock:
    block = cast("MobileViTv2Block", block)
    return AttendingBlock(
        groups=tuple(_block_groups(block, stage)),
        readers=(*writes(block.local_conv), *reads(block.local_project)),
        writer=block.project,
        path=("widths", "projected", stage),
        scale_equivariant=False,  # between local_conv and local_project stands a SiLU
        transformer=block.transformer.blocks,
    )


def _block_groups(block: MobileViTv2Block, stage: int) -> Iterator[ChannelGroup]:
    name, norm = f"stage {stage + 1}", block.transformer.norm
    stream = (*writes(block.local_project), *writes(norm), *reads(block.project))
    for i, layer in numbered(block.transformer.blocks).items():
        stream += stream_slices(layer)
        yield from located(block_groups(layer), name, "widths", "transformers", stage, i)
    yield ChannelGroup((("stages", stage, "dim"),), "stream", norm.num_channels, (stream,), stage=name)
