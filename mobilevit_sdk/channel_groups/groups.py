"""The vocabulary: groups of channels that are kept or removed together, and where their units stand in the weights.

A unit is a channel with the row that writes it, its norm and the columns that read it; or a head; or a dimension that
queries and keys share. Nothing can be removed from a network but units of these groups and whole blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from mobilevit_sdk.layers.conv import ConvNormAct, is_depthwise

ConfigPath = tuple[str | int, ...]  # from a config, as plain data, to one of its values
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm


@dataclass(frozen=True)
class ChannelSlice:
    """Where the units of a group stand along one axis of a tensor: unit i at `rows` indices from `start + i * rows` on.

    With `unit`, the slice belongs to that unit alone and begins at `start`. The tensor is a parameter or buffer of
    `owner`, or one of its products (`dispatch.products`). Over the slices with `effect`, gradient times weight sums to
    minus the first-order change of the loss without the unit: they count every path through it once. In a group that is
    `scale_equivariant`, a unit scaled by s has its values here scaled by s ** `degree`.
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
class ChannelGroup:
    """A number of channels, heads or dimensions, which stands at `paths` of the config from `ModelConfig.explicit`.

    Each of `parts` holds `size` units. All parts keep the same number of units, `minimum` or more, but each part
    chooses its own: every head keeps as many dimensions. The config holds that number times `scale`, or, for units with
    `names`, the names of those that are kept. One unit fewer in each part is `rows` rows fewer in the phone's layers.
    After pruning, the `rescaled` slices are multiplied by sqrt(kept / size), which keeps the scale of attention. `kind`
    and `stage` name the group in reports.

    `scale_equivariant`: between the layers that write the units and those that read them stand only sums, means, max
    pools, ReLUs, zero padding, depthwise convolutions and their norms, so a unit scaled by any s > 0 arrives scaled by
    s. False where this is not known.
    """

    paths: tuple[ConfigPath, ...]
    kind: str
    size: int
    parts: tuple[tuple[ChannelSlice, ...], ...]
    rescaled: tuple[ChannelSlice, ...] = ()
    minimum: int = 1
    scale: int = 1
    rows: int = 1
    names: tuple[int, ...] | None = None
    stage: str = ""
    scale_equivariant: bool = False


@dataclass(frozen=True)
class RemovableBlock:
    """A module that can be removed as a whole; the explicit config then holds `placeholder` at `path`.

    Without the module its input takes the place of its output, which has the same shape.
    """

    path: ConfigPath
    placeholder: int | None
    module: nn.Module
    stage: str = ""


def writes(
    layer: nn.Linear | nn.Conv2d | ConvNormAct | Norm, start: int = 0, rows: int = 1, *, effect: bool = False
) -> tuple[ChannelSlice, ...]:
    """The units as outputs of `layer`: rows of its weight, its bias and its norm. `effect` marks the parameters."""
    if isinstance(layer, ConvNormAct):
        return (*writes(layer.conv, start, rows), *writes(layer.norm, start, rows, effect=effect))
    tensors = dict(layer.named_parameters(recurse=False))
    statistics = [name for name, tensor in layer.named_buffers(recurse=False) if tensor.ndim]
    scaled = {"bias", "running_mean"}  # not a norm's gain and variance: its input is scaled already
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and not is_depthwise(layer)):
        scaled.add("weight")
    return (
        *(ChannelSlice(layer, name, 0, start, rows, effect, degree=int(name in scaled)) for name in tensors),
        *(ChannelSlice(layer, name, 0, start, rows, degree=int(name in scaled)) for name in statistics),
    )


def reads(layer: nn.Linear | nn.Conv2d | ConvNormAct, start: int = 0, rows: int = 1) -> tuple[ChannelSlice, ...]:
    """The units as inputs of `layer`, which is not a depthwise convolution: columns of its weight."""
    layer = layer.conv if isinstance(layer, ConvNormAct) else layer
    return (ChannelSlice(layer, "weight", 1, start, rows, effect=True, degree=-1),)


def gates(layer: nn.Linear | nn.Conv2d | ConvNormAct | Norm) -> tuple[ChannelSlice, ...]:
    """The units as those that `layer` computes a factor in (0, 1) for, which does not depend on their scale."""
    return tuple(dataclasses.replace(each, degree=0) for each in writes(layer))


def shifted(slices: Iterable[ChannelSlice], offset: int) -> tuple[ChannelSlice, ...]:
    """The same slices, `offset` indices further along their axes."""
    return tuple(dataclasses.replace(each, start=each.start + offset) for each in slices)


def of_unit(unit: int, layer: ConvNormAct) -> tuple[ChannelSlice, ...]:
    """All outputs of `layer` as belonging to one unit."""
    rows = layer.conv.out_channels
    return tuple(dataclasses.replace(each, unit=unit) for each in writes(layer, 0, rows))


def group(
    kind: str,
    size: int,
    *parts: Iterable[ChannelSlice],
    name: str | None = None,
    rows: int = 1,
    rescaled: Iterable[ChannelSlice] = (),
    scale_equivariant: bool = False,
) -> ChannelGroup:
    """A group of a block, at `name` of the block's own config; without a name that config is the number itself."""
    path: ConfigPath = () if name is None else (name,)
    of_each = tuple(tuple(part) for part in parts)
    return ChannelGroup((path,), kind, size, of_each, tuple(rescaled), rows=rows, scale_equivariant=scale_equivariant)


def located(groups: Iterable[ChannelGroup], stage: str, *path: str | int) -> Iterator[ChannelGroup]:
    """Groups of a block as groups of its network, whose config holds the block's own at `path`."""
    for each in groups:
        yield dataclasses.replace(each, stage=stage, paths=tuple((*path, *own) for own in each.paths))


def numbered(blocks: nn.Module) -> dict[int, nn.Module]:
    """The blocks of a stage by their numbers, which have gaps where blocks were removed."""
    return {int(name): block for name, block in blocks.named_children()}
