"""The channels that run through the stages of both MobileViTs: inverted residuals, then a block with attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn

from mobilevit_sdk.channel_groups.blocks import block_groups
from mobilevit_sdk.channel_groups.groups import (
    ChannelGroup,
    ChannelSlice,
    ConfigPath,
    RemovableBlock,
    located,
    numbered,
    reads,
    writes,
)
from mobilevit_sdk.layers import ConvNormAct, InvertedResidual


@dataclass(frozen=True)
class AttendingBlock:
    """What ends a stage: it reads one stream of channels at `readers`, and `writer` begins another.

    `path` is where the config holds the channels that `writer` writes. `scale_equivariant` says whether the block does
    nothing before its `readers` but what `ChannelGroup.scale_equivariant` allows.
    """

    groups: tuple[ChannelGroup, ...]
    readers: tuple[ChannelSlice, ...]
    writer: ConvNormAct
    path: ConfigPath
    scale_equivariant: bool
    transformer: nn.Sequential


Describe = Callable[[nn.Module, int], AttendingBlock]  # a family's block with attention, and the number of its stage


def removable_blocks_of(stages: nn.Sequential, describe: Describe) -> Iterator[RemovableBlock]:
    """All but the first of the inverted residuals of each stage, and of the blocks of its transformer."""
    for i, number, block in _blocks_of(stages):
        if isinstance(block, InvertedResidual):
            if number:
                yield RemovableBlock(("widths", "hidden", i, number), 0, block, f"stage {i + 1}")
        else:
            for j, layer in numbered(describe(block, i).transformer).items():
                if j:
                    yield RemovableBlock(("widths", "transformers", i, j), None, layer, f"stage {i + 1}")


def _blocks_of(stages: nn.Sequential) -> Iterator[tuple[int, int, nn.Module]]:
    """The blocks of all stages, with the number of the stage and the block's within it."""
    for i, stage in enumerate(stages):
        for number, block in numbered(stage).items():
            yield i, number, block


class Stream:
    """The channels from one layer that begins a stream to the next, and all that adds to them between."""

    def __init__(self, stem: ConvNormAct) -> None:
        self._begin(stem, ("stem_channels",), "stem")

    def _begin(self, first: ConvNormAct, path: ConfigPath, stage: str) -> None:
        self.slices, self.paths, self.stage = writes(first), [path], stage
        self.scale_equivariant = isinstance(first.activation, nn.Identity)
        self.size = first.conv.out_channels

    def along(self, stages: nn.Sequential, describe: Describe) -> Iterator[ChannelGroup]:
        """All groups of the stages, but for the channels that leave the last of them: these `end` elsewhere."""
        for i, number, block in _blocks_of(stages):
            if isinstance(block, InvertedResidual):
                yield from self._pass_through(block, i, number)
            else:
                attending = describe(block, i)
                yield from attending.groups
                yield self.end(*attending.readers, scale_equivariant=attending.scale_equivariant)
                self._begin(attending.writer, attending.path, f"stage {i + 1}")

    def _pass_through(self, block: InvertedResidual, stage: int, number: int) -> Iterator[ChannelGroup]:
        """An inverted residual reads the stream and, with a residual, adds to it; without, it begins another."""
        name, path = f"stage {stage + 1}", ("stages", stage, "channels")
        yield from located(block_groups(block), name, "widths", "hidden", stage, number)
        if block.has_residual:
            self.slices += (*reads(block.expand), *writes(block.project))
            self.paths = [*dict.fromkeys((*self.paths, path))]
        else:
            yield self.end(*reads(block.expand))
            self._begin(block.project, path, name)

    def end(self, *readers: ChannelSlice, scale_equivariant: bool = True) -> ChannelGroup:
        """The group of the stream, which `readers` read last; `scale_equivariant` tells what stands before these."""
        return ChannelGroup(
            tuple(self.paths),
            "stream",
            self.size,
            ((*self.slices, *readers),),
            stage=self.stage,
            scale_equivariant=self.scale_equivariant and scale_equivariant,
        )
