"""Channel groups of TinyViT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import nn

from mobilevit_sdk.channel_groups.blocks import block_groups, stream_slices
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
from mobilevit_sdk.layers import ConvNormAct
from mobilevit_sdk.models.tiny_vit import AttentionStage, MBConv, PatchMerging, TinyViT


@network_groups.register
def _tiny_vit_groups(network: TinyViT) -> Iterator[ChannelGroup]:
    first, second = (cast("ConvNormAct", layer) for layer in network.stem)
    stem = (*writes(first), *reads(second))
    yield ChannelGroup((("widths", "stem"),), "stream", first.conv.out_channels, (stem,), stage="stem")
    stream: tuple[ChannelSlice, ...] = writes(second)
    for i, blocks in enumerate(_stages(network)):
        name, dim = f"stage {i + 1}", network.config.dims[i]
        path = ("widths", "blocks", i - 1) if i else ("widths", "convolutional")
        for j, block in blocks.items():
            yield from located(block_groups(block), name, *path, j)
            stream += stream_slices(block)
        if i + 1 < len(network.stages):
            following = cast("AttentionStage", network.stages[i + 1]).downsample
            yield from located(block_groups(following), f"stage {i + 2}", "widths", "merging", i)
            readers, following_stream = reads(following.expand), writes(following.project)
        else:
            readers, following_stream = (*writes(network.norm), *reads(network.head)), ()
        yield ChannelGroup((("dims", i),), "stream", dim, ((*stream, *readers),), minimum=2, stage=name)
        stream = following_stream


@network_blocks.register
def _tiny_vit_blocks(network: TinyViT) -> Iterator[RemovableBlock]:
    """All but the first of each stage."""
    for i, blocks in enumerate(_stages(network)):
        for j, block in blocks.items():
            path = ("widths", "blocks", i - 1, j) if i else ("widths", "convolutional", j)
            if j:
                yield RemovableBlock(path, None if i else 0, block, f"stage {i + 1}")


def _stages(network: TinyViT) -> Iterator[dict[int, nn.Module]]:
    """The blocks of each stage by their numbers: the first stage is of convolutions."""
    for i, stage in enumerate(network.stages):
        yield numbered(cast("AttentionStage", stage).blocks if i else stage)


@block_groups.register(MBConv)
@block_groups.register(PatchMerging)
def _expansion(block: MBConv | PatchMerging) -> Iterator[ChannelGroup]:
    hidden = (*writes(block.expand), *writes(block.depthwise), *reads(block.project))
    yield group("expansion", block.expand.conv.out_channels, hidden)


@stream_slices.register
def _mbconv_stream(block: MBConv) -> tuple[ChannelSlice, ...]:
    return (*reads(block.expand), *writes(block.project))
