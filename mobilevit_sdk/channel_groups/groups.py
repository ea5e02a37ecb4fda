"""What of a network can go: its widths, and where the units that they count stand in its tensors.

A unit is what lives and dies together: a channel with the row that writes it, its norm and the columns that read it; a
head; a dimension that queries and keys share. Blocks describe theirs beside their code; pruning reads nothing else, nor
does the rewrite that evens channels out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

ConfigPath = tuple[str | int, ...]  # from a config, as plain data, to one of its values
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm


@dataclass(frozen=True)
class Slice:
    """The places of units along one axis of a tensor: those of unit i are `rows`, from `start + i * rows` on.

    With `unit`, the places are of that unit alone, and they begin at `start`. The tensor is a parameter or buffer of
    `owner`, or one of its products (`HasProducts`). Over the slices with `effect`, gradient times weight sums up
    to minus the first-order change of the loss without the unit: they count every path through it once. In a width that
    is `scale_equivariant`, a unit s times as large has s ** `degree` times the values at these places.
    """

    owner: nn.Module
    tensor: str
    axis: int
    start: int = 0
    rows: int = 1
    effect: bool = False
    unit: int | None = None
    degree: int = 0


@dataclass(frozen=True)
class Width:
    """A number of channels, heads or dimensions, written at `paths` of the config that `ModelConfig.explicit` gives.

    Each of `parts` holds `size` units, and each keeps the same number of them, chosen for itself: of every head as many
    dimensions, and at least `minimum`. The config holds that number times `scale`, or the `names` of the kept units
    where they have some. A unit more in each part is `rows` rows more of a phone's layers. After pruning, `rescaled` is
    multiplied by sqrt(kept / size), which keeps the scale of attention as it was. `kind` and `stage` say in reports
    what it is and where.

    `scale_equivariant`: between those who write the units and those who read them stand only sums, means, ReLUs,
    pads with zeros, convolutions of single channels and their norms, so that units s > 0 times as large, of any s, are
    read as such. Where this is not known, it is not said.
    """

    paths: tuple[ConfigPath, ...]
    kind: str
    size: int
    parts: tuple[tuple[Slice, ...], ...]
    rescaled: tuple[Slice, ...] = ()
    minimum: int = 1
    scale: int = 1
    rows: int = 1
    names: tuple[int, ...] | None = None
    stage: str = ""
    scale_equivariant: bool = False


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
class HasChannelGroups(Protocol):
    """A network of which channels, heads, dimensions or blocks can go."""

    def widths(self) -> Iterable[Width]:
        """All of them; each number of the config in at most one."""
        ...

    def removable_blocks(self) -> Iterable[Block]:
        """Those that can go as a whole."""
        ...


@runtime_checkable
class HasProducts(Protocol):
    """A block that multiplies activations with each other."""

    def products(self) -> Mapping[str, tuple[int, ...]]:
        """The sizes that each product's multiply-accumulates are proportional to, under a name for `Slice.tensor`."""
        ...


def writes(
    layer: nn.Linear | nn.Conv2d | ConvNormAct | Norm, start: int = 0, rows: int = 1, *, effect: bool = False
) -> tuple[Slice, ...]:
    """The units as what `layer` writes: rows of its weight, of its bias, of its norm, which may have their effect."""
    if isinstance(layer, ConvNormAct):
        return (*writes(layer.conv, start, rows), *writes(layer.norm, start, rows, effect=effect))
    tensors = dict(layer.named_parameters(recurse=False))
    statistics = [name for name, tensor in layer.named_buffers(recurse=False) if tensor.ndim]
    grow = {"bias", "running_mean"}  # a norm's gain and variance stay: what it is given has grown already
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and not is_depthwise(layer)):
        grow.add("weight")
    return (
        *(Slice(layer, name, 0, start, rows, effect, degree=int(name in grow)) for name in tensors),
        *(Slice(layer, name, 0, start, rows, degree=int(name in grow)) for name in statistics),
    )


def reads(layer: nn.Linear | nn.Conv2d | ConvNormAct, start: int = 0, rows: int = 1) -> tuple[Slice, ...]:
    """The units as what `layer`, not a depthwise convolution, reads: columns of its weight."""
    layer = layer.conv if isinstance(layer, ConvNormAct) else layer
    return (Slice(layer, "weight", 1, start, rows, effect=True, degree=-1),)


def gates(layer: nn.Linear | nn.Conv2d | ConvNormAct | Norm) -> tuple[Slice, ...]:
    """The units as what `layer` writes a factor in (0, 1) for: it stays what it is, however large they are."""
    return tuple(dataclasses.replace(each, degree=0) for each in writes(layer))


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
    scale_equivariant: bool = False,
) -> Width:
    """A width of a block, at `name` of the block's own config, or the one number that this is."""
    path: ConfigPath = () if name is None else (name,)
    of_each = tuple(tuple(part) for part in parts)
    return Width((path,), kind, size, of_each, tuple(rescaled), rows=rows, scale_equivariant=scale_equivariant)


def located(widths: Iterable[Width], stage: str, *path: str | int) -> Iterator[Width]:
    """The widths of a block whose config stands at `path` of the network's."""
    for each in widths:
        yield dataclasses.replace(each, stage=stage, paths=tuple((*path, *own) for own in each.paths))


from mobilevit_sdk.layers.conv import ConvNormAct, is_depthwise  # noqa: E402
