"""A network as pruning sees it: named tensors with shapes, channel groups with places in them, and what is to go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from mobilevit_sdk.channel_groups import (
    ChannelGroup,
    ChannelSlice,
    RemovableBlock,
    channel_groups,
    products,
    removable_blocks,
)

Axis = tuple[str, int]  # a tensor's name, and one of its axes


class Structure:
    """The channel groups and removable blocks of `model`, and where their units stand, by the names of its tensors.

    Names are those of `state_dict()`, beside which stand the products of activations, as `<module>.<product>`. Raises
    RequestError for a model whose channel groups are not known.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.groups: list[ChannelGroup] = list(channel_groups(model))
        self.blocks: list[RemovableBlock] = list(removable_blocks(model))
        self._prefixes = {module: f"{path}." if path else "" for path, module in model.named_modules()}
        self.shapes: dict[str, tuple[int, ...]] = {
            name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
        }
        for module, prefix in self._prefixes.items():
            self.shapes |= {f"{prefix}{product}": tuple(shape) for product, shape in products(module).items()}

    def tensor(self, place: ChannelSlice) -> str:
        """The name of the tensor that `place` belongs to."""
        return f"{self._prefixes[place.owner]}{place.tensor}"

    def matrix(self, place: ChannelSlice, size: int) -> np.ndarray:
        """The indices along the axis of `place` of each of `size` units, [size, rows]; -1 where a unit has none."""
        if place.unit is None:
            return np.arange(place.start, place.start + size * place.rows).reshape(size, place.rows)
        rows = np.full((size, place.rows), -1)
        rows[place.unit] = np.arange(place.start, place.start + place.rows)
        return rows

    def tensors_of(self, block: RemovableBlock) -> list[str]:
        """The names of all tensors and products within a block."""
        return [name for name in self.shapes if name.startswith(self._prefixes[block.module])]


@dataclass
class Pruning:
    """What is to go: of each group, by its index, the units of every part; and blocks, by their indices."""

    structure: Structure
    units: dict[int, list[set[int]]] = field(default_factory=dict)
    blocks: set[int] = field(default_factory=set)

    def kept(self, index: int) -> int:
        """How many units are left in each part of a group."""
        gone = self.units.get(index)
        return self.structure.groups[index].size - (len(gone[0]) if gone else 0)

    def remove(self, index: int, units: list[list[int]]) -> None:
        """Remove these units of each part, as many from every part."""
        gone = self.units.setdefault(index, [set() for _ in units])
        for part, more in zip(gone, units, strict=True):
            part.update(more)

    def lies_in_removed_block(self, index: int) -> bool:
        """Whether the group belongs to a block that is removed."""
        paths = self.structure.groups[index].paths
        gone = [self.structure.blocks[block].path for block in self.blocks]
        return any(path[: len(each)] == each for path in paths for each in gone)

    def removed_rows(self) -> Iterator[tuple[Axis, np.ndarray]]:
        """Indices along axes that go; an axis may come several times."""
        for index, parts in self.units.items():
            group = self.structure.groups[index]
            for places, units in zip(group.parts, parts, strict=True):
                for place in places:
                    rows = self.structure.matrix(place, group.size)[sorted(units)]
                    yield (self.structure.tensor(place), place.axis), rows[rows >= 0]

    def kept_masks(self) -> dict[Axis, np.ndarray]:
        """For each axis that loses something, which of its indices stay."""
        masks: dict[Axis, np.ndarray] = {}
        for axis, rows in self.removed_rows():
            mask = masks.setdefault(axis, np.ones(self.structure.shapes[axis[0]][axis[1]], bool))
            mask[rows] = False
        return masks
