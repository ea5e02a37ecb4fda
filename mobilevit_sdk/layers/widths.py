"""What of a network can go: its widths, and where the units that they count stand in its tensors.

A unit is what lives and dies together: a channel with the row that writes it, its norm and the columns that read it; a
head; a dimension that queries and keys share. Blocks describe theirs beside their code; pruning reads nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from mobilevit_sdk.layers.conv import ConvNormAct

ConfigPath = tuple[str | int, ...]  # from a config, as plain data, to one of its values
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm
Layer = nn.Linear | nn.Conv2d | ConvNormAct | Norm


@dataclass(frozen=True)
class Slice:
    """The places of units along one axis of a tensor: those of unit i are `rows`, from `start + i * rows` on.

    With `unit`, the places are of that unit alone, and they begin at `start`. The tensor is a parameter or buffer of
    `owner`, or one of its products (`DeclaresProducts`). Over the slices with `effect`, gradient times weight sums up
    to minus the first-order change of the loss without the unit: they count every path through it once.
    """

    owner: nn.Module
    tensor: str
    axis: int
    start: int = 0
    rows: int = 1
    effect: bool = False
    unit: int | None = None


@dataclass(frozen=True)
class Width:
    """A number of channels, heads or dimensions, written at `paths` of the config that `ModelConfig.explicit` gives.

    Each of `parts` holds `size` units, and each keeps the same number of them, chosen for itself: of every head as many
    dimensions, and at least `least`. The config holds that number times `scale`, or the `names` of the kept units where
    they have some. A unit more in each part is `rows` rows more of a phone's layers. After pruning, `rescaled` is
    multiplied by sqrt(kept / size), which keeps the scale of attention as it was. `kind` and `stage` say in reports
    what it is and where.
    """

    paths: tuple[ConfigPath, ...]
    kind: str
    size: int
    parts: tuple[tuple[Slice, ...], ...]
    rescaled: tuple[Slice, ...] = ()
    least: int = 1
    scale: int = 1
    rows: int = 1
    names: tuple[int, ...] | None = None
    stage: str = ""


@dataclass(frozen=True)
class Block:
    """A module that can go as a whole, and `path`, where the explicit config then holds `gone`.

    Without it, what goes in comes out: the module has the same shape before and after.
    """

    path: ConfigPath
    gone: int | None
    module: nn.Module
    stage: str = ""


@runtime_checkable
class DeclaresWidths(Protocol):
    """A network of which channels, heads, dimensions or blocks can go."""

    def widths(self) -> Iterable[Width]:
        """All of them; each number of the config in at most one."""
        ...

    def removable_blocks(self) -> Iterable[Block]:
        """Those that can go as a whole."""
        ...


@runtime_checkable
class DeclaresProducts(Protocol):
    """A block that multiplies activations with each other."""

    def products(self) -> Mapping[str, tuple[int, ...]]:
        """The sizes that each product's multiply-accumulates are proportional to, under a name for `Slice.tensor`."""
        ...


def writes(layer: Layer, start: int = 0, rows: int = 1, *, effect: bool = False) -> tuple[Slice, ...]:
    """The units as what `layer` writes: rows of its weight, of its bias, of its norm, which may have their effect."""
    if isinstance(layer, ConvNormAct):
        return (*writes(layer.conv, start, rows), *writes(layer.norm, start, rows, effect=effect))
    tensors = dict(layer.named_parameters(recurse=False))
    statistics = [name for name, tensor in layer.named_buffers(recurse=False) if tensor.ndim]
    return (
        *(Slice(layer, name, 0, start, rows, effect) for name in tensors),
        *(Slice(layer, name, 0, start, rows) for name in statistics),
    )


def reads(layer: nn.Linear | nn.Conv2d | ConvNormAct, start: int = 0, rows: int = 1) -> tuple[Slice, ...]:
    """The units as what `layer`, not a depthwise convolution, reads: columns of its weight."""
    layer = layer.conv if isinstance(layer, ConvNormAct) else layer
    return (Slice(layer, "weight", 1, start, rows, effect=True),)


def shifted(slices: Iterable[Slice], start: int) -> tuple[Slice, ...]:
    """The same tensors for units that stand further on."""
    return tuple(dataclasses.replace(each, start=each.start + start) for each in slices)


def of_unit(unit: int, layer: ConvNormAct) -> tuple[Slice, ...]:
    """All that `layer` writes, as the places of one unit."""
    rows = layer.conv.out_channels
    return tuple(dataclasses.replace(each, unit=unit) for each in writes(layer, 0, rows))


def width(
    kind: str,
    size: int,
    *parts: Iterable[Slice],
    name: str | None = None,
    rows: int = 1,
    rescaled: Iterable[Slice] = (),
) -> Width:
    """A width of a block, at `name` of the block's own config, or the one number that this is."""
    path: ConfigPath = () if name is None else (name,)
    return Width((path,), kind, size, tuple(tuple(part) for part in parts), tuple(rescaled), rows=rows)


def located(widths: Iterable[Width], stage: str, *path: str | int) -> Iterator[Width]:
    """The widths of a block whose config stands at `path` of the network's."""
    for each in widths:
        yield dataclasses.replace(each, stage=stage, paths=tuple((*path, *own) for own in each.paths))
