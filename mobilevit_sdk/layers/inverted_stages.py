"""Stages that begin with inverted residuals, as both MobileViTs have them, and the channels that run through them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, cast

from torch import nn

from mobilevit_sdk.channel_groups.groups import Block, ConfigPath, Slice, Width, located, reads, writes
from mobilevit_sdk.layers.conv import ConvNormAct
from mobilevit_sdk.layers.inverted_residual import InvertedResidual


def inverted_residuals(
    in_channels: int,
    channels: int,
    hidden: tuple[int, ...],
    *,
    stride: int,
    residual: bool,
    stochastic_depth: float,
    norm_eps: float,
) -> nn.Sequential:
    """Those of a stage, each named by its number, with `hidden` channels within them, 0 for one that is gone.

    The first has the stride, and a residual where shapes allow it and `residual` is set.
    """
    blocks = nn.Sequential()
    for j, width in enumerate(hidden):
        if width:
            block = InvertedResidual(
                in_channels,
                channels,
                stride=1 if j else stride,
                hidden_channels=width,
                residual=bool(j) or residual,
                stochastic_depth=stochastic_depth,
                norm_eps=norm_eps,
            )
            blocks.add_module(str(j), block)
        in_channels = channels
    return blocks


class AttendingBlock(Protocol):
    """What ends a stage: a transformer between convolutions that read one stream of channels and write another.

    `reads_homogeneously`: nothing but what `Width.scale_equivariant` allows stands before its readers.
    """

    reads_homogeneously: bool

    def readers(self) -> tuple[Slice, ...]: ...

    def output(self, stage: int) -> tuple[ConvNormAct, ConfigPath]: ...

    def widths(self, stage: int) -> Iterator[Width]: ...

    def blocks(self) -> Mapping[int, nn.Module]: ...


def removable_blocks(stages: nn.Sequential) -> Iterator[Block]:
    """All but the first of the inverted residuals of each stage, and of the blocks of its transformer."""
    for i, number, block in _blocks_of(stages):
        if not isinstance(block, InvertedResidual):
            for j, layer in block.blocks().items():
                if j:
                    yield Block(("widths", "transformers", i, j), None, layer, f"stage {i + 1}")
        elif number:
            yield Block(("widths", "hidden", i, number), 0, block, f"stage {i + 1}")


def _blocks_of(stages: nn.Sequential) -> Iterator[tuple[int, int, InvertedResidual | AttendingBlock]]:
    """The blocks of all stages, with the numbers of their stage and within it."""
    for i, stage in enumerate(stages):
        for name, block in stage.named_children():
            yield i, int(name), cast("InvertedResidual | AttendingBlock", block)


class Stream:
    """The channels from one block that writes them anew to the next, with the residuals between."""

    def __init__(self, first: ConvNormAct, path: ConfigPath = ("stem_channels",), stage: str = "stem") -> None:
        self.begin(first, path, stage)

    def begin(self, first: ConvNormAct, path: ConfigPath, stage: str) -> None:
        self.slices, self.paths, self.stage = writes(first), [path], stage
        self.scale_equivariant = isinstance(first.activation, nn.Identity)
        self.size = first.conv.out_channels

    def along(self, stages: nn.Sequential) -> Iterator[Width]:
        """All widths of the stages; the channels that leave the last of them are not ended yet."""
        for i, number, block in _blocks_of(stages):
            if isinstance(block, InvertedResidual):
                yield from self._pass_through(block, i, number)
            else:
                yield from block.widths(i)
                yield self.end(*block.readers(), scale_equivariant=block.reads_homogeneously)
                self.begin(*block.output(i), f"stage {i + 1}")

    def _pass_through(self, block: InvertedResidual, stage: int, number: int) -> Iterator[Width]:
        """Read by an inverted residual; one without residual ends it, and begins another."""
        name, path = f"stage {stage + 1}", ("stages", stage, "channels")
        yield from located(block.widths(), name, "widths", "hidden", stage, number)
        if block.has_residual:
            self.slices += (*reads(block.expand), *writes(block.project))
            self.paths = [*dict.fromkeys((*self.paths, path))]
        else:
            yield self.end(*reads(block.expand))
            self.begin(block.project, path, name)

    def end(self, *readers: Slice, scale_equivariant: bool = True) -> Width:
        """The width; `scale_equivariant` says whether what comes before the `readers` leaves it so."""
        parts, scale_equivariant = ((*self.slices, *readers),), self.scale_equivariant and scale_equivariant
        return Width(
            tuple(self.paths), "stream", self.size, parts, stage=self.stage, scale_equivariant=scale_equivariant
        )
