"""A network as pruning sees it: tensors with names and shapes, widths whose units stand in them, and what is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from mobilevit_sdk.channel_groups.groups import Block, HasChannelGroups, HasProducts, Slice, Width
from mobilevit_sdk.errors import RequestError

Axis = tuple[str, int]  # a tensor's name, and one of its axes


class Structure:
    """The widths and removable blocks of `model`, and where their units stand, by the names of its tensors.

    Names are those of `state_dict()`, and those of products stand beside them. Raises RequestError for a model that
    declares no widths.
    """

    def __init__(self, model: nn.Module, name: str = "the model") -> None:
        if not isinstance(model, HasChannelGroups):
            raise RequestError(
                f"{name} does not say which of its channels belong together (channel_groups.HasChannelGroups), so "
                f"nothing can be pruned; the families of this SDK do"
            )
        self.model = model
        self.widths: list[Width] = list(model.widths())
        self.blocks: list[Block] = list(model.removable_blocks())
        self._prefixes = {module: f"{path}." if path else "" for path, module in model.named_modules()}
        self.shapes: dict[str, tuple[int, ...]] = {
            name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
        }
        for path, module in model.named_modules():
            if isinstance(module, HasProducts):
                self.shapes |= {f"{path}.{product}": tuple(shape) for product, shape in module.products().items()}

    def tensor(self, place: Slice) -> str:
        """The name of the tensor in which `place` is."""
        return f"{self._prefixes[place.owner]}{place.tensor}"

    def matrix(self, place: Slice, size: int) -> np.ndarray:
        """The indices along the axis of `place` of each of `size` units, [size, rows]; -1 where a unit has none."""
        if place.unit is None:
            return np.arange(place.start, place.start + size * place.rows).reshape(size, place.rows)
        rows = np.full((size, place.rows), -1)
        rows[place.unit] = np.arange(place.start, place.start + place.rows)
        return rows

    def tensors_of(self, block: Block) -> list[str]:
        """The names of all tensors and products within a block."""
        return [name for name in self.shapes if name.startswith(self._prefixes[block.module])]


@dataclass
class Pruning:
    """What is to go: of each width, by its number, the units of every part; and blocks, by their numbers."""

    structure: Structure
    units: dict[int, list[set[int]]] = field(default_factory=dict)
    blocks: set[int] = field(default_factory=set)

    def kept(self, index: int) -> int:
        """How many units of a width's parts are left."""
        gone = self.units.get(index)
        return self.structure.widths[index].size - (len(gone[0]) if gone else 0)

    def remove(self, index: int, units: list[list[int]]) -> None:
        """Let these units of each part go, as many of every part."""
        gone = self.units.setdefault(index, [set() for _ in units])
        for part, more in zip(gone, units, strict=True):
            part.update(more)

    def lies_in_gone_block(self, index: int) -> bool:
        """Whether the width is one of a block that goes."""
        paths = self.structure.widths[index].paths
        gone = [self.structure.blocks[block].path for block in self.blocks]
        return any(path[: len(each)] == each for path in paths for each in gone)

    def removed_rows(self) -> Iterator[tuple[Axis, np.ndarray]]:
        """Indices along axes that go; an axis may come several times."""
        for index, parts in self.units.items():
            width = self.structure.widths[index]
            for places, units in zip(width.parts, parts, strict=True):
                for place in places:
                    rows = self.structure.matrix(place, width.size)[sorted(units)]
                    yield (self.structure.tensor(place), place.axis), rows[rows >= 0]

    def kept_masks(self) -> dict[Axis, np.ndarray]:
        """For each axis that loses something, which of its indices stay."""
        masks: dict[Axis, np.ndarray] = {}
        for axis, rows in self.removed_rows():
            mask = masks.setdefault(axis, np.ones(self.structure.shapes[axis[0]][axis[1]], bool))
            mask[rows] = False
        return masks
