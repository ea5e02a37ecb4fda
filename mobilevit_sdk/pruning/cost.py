"""What a network costs, tensor by tensor, and what of it is saved when units go.

A layer's multiply-accumulates are its weight's elements times the positions that it answers at; those of a product of
activations are in proportion to its sizes; so are microseconds, to the precision of a table. What is left of a tensor
is the product of what is left of its axes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import prod

import numpy as np
from torch import Tensor, nn

from mobilevit_sdk.channel_groups.groups import HasProducts
from mobilevit_sdk.layers.flops import macs_by_module
from mobilevit_sdk.pruning.structure import Axis, Structure


def mac_rates(structure: Structure, image_size: tuple[int, int]) -> dict[str, float]:
    """Multiply-accumulates on one image of (H, W) pixels for each element of a layer's weight, or of a product."""
    rates: dict[str, float] = {}
    layers: dict[nn.Module, str] = {
        m: n for n, m in structure.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
    }
    blocks = {m: n for n, m in structure.model.named_modules() if isinstance(m, HasProducts)}

    def count(layer: nn.Module, inputs: object, output: Tensor) -> None:
        channels_last = isinstance(layer, nn.Linear)
        positions = output.numel() // output.shape[-1 if channels_last else 1]
        rates[f"{layers[layer]}.weight"] = positions

    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        macs = macs_by_module(structure.model, image_size)
    finally:
        for hook in hooks:
            hook.remove()
    for block, name in blocks.items():
        assert isinstance(block, HasProducts)
        whole = macs[name]
        within = sum(
            rate * prod(structure.shapes[tensor]) for tensor, rate in rates.items() if tensor.startswith(f"{name}.")
        )
        products = {f"{name}.{product}": prod(shape) for product, shape in block.products().items()}
        rates |= dict.fromkeys(products, (whole - within) / sum(products.values()))
    return rates


def parameter_rates(structure: Structure) -> dict[str, float]:
    """One for each element of a parameter."""
    return {name: 1.0 for name, _ in structure.model.named_parameters()}


class Budget:
    """The cost of what is left while units go one after the other; `rates` is what each tensor's elements cost."""

    def __init__(self, structure: Structure, rates: Mapping[str, float]) -> None:
        self.structure, self.rates = structure, dict(rates)
        self.counts = {name: list(structure.shapes[name]) for name in rates}
        self.masks: dict[Axis, np.ndarray] = {}
        self.places: dict[int, list[list[tuple[Axis, np.ndarray]]]] = {}
        self.total = sum(self._cost(name, self.counts[name]) for name in rates)
        self.left = self.total

    def saving(self, index: int, units: list[list[int]]) -> float:
        """What goes with these units of each part of a width."""
        fewer: dict[str, list[int]] = {}
        for (name, axis), rows in self._rows(index, units).items():
            counts = fewer.setdefault(name, list(self.counts[name]))
            mask = self.masks.get((name, axis))
            counts[axis] -= len(rows) if mask is None else int(mask[rows].sum())
        return sum(self._cost(name, self.counts[name]) - self._cost(name, counts) for name, counts in fewer.items())

    def remove(self, index: int, units: list[list[int]]) -> None:
        """Take them out."""
        self.left -= self.saving(index, units)
        for (name, axis), rows in self._rows(index, units).items():
            mask = self.masks.setdefault((name, axis), np.ones(self.structure.shapes[name][axis], bool))
            mask[rows] = False
            self.counts[name][axis] = int(mask.sum())

    def saving_of_block(self, number: int) -> float:
        """What goes with all that is left of a block."""
        return sum(self._cost(name, self.counts[name]) for name in self.tensors_of_block(number))

    def remove_block(self, number: int) -> None:
        """Take it out."""
        self.left -= self.saving_of_block(number)
        for name in self.tensors_of_block(number):
            self.counts[name] = [0] * len(self.counts[name])

    def tensors_of_block(self, number: int) -> set[str]:
        """Those within a block that cost something."""
        return {name for name in self.structure.tensors_of(self.structure.blocks[number]) if name in self.rates}

    def _cost(self, name: str, counts: list[int]) -> float:
        return self.rates[name] * prod(counts)

    def _rows(self, index: int, units: list[list[int]]) -> dict[Axis, np.ndarray]:
        """The indices along each axis that costs something and where units of a width stand."""
        found: dict[Axis, list[np.ndarray]] = defaultdict(list)
        for chosen, axes in zip(units, self._places(index), strict=True):
            for axis, rows in axes:
                found[axis].append(rows[chosen].ravel())
        return {axis: (rows := np.concatenate(each))[rows >= 0] for axis, each in found.items()}

    def _places(self, index: int) -> list[list[tuple[Axis, np.ndarray]]]:
        """For each part of a width, indices along axes [size, rows]; -1 where a unit has none."""
        if index not in self.places:
            width = self.structure.widths[index]
            self.places[index] = [
                [
                    ((name, place.axis), self.structure.matrix(place, width.size))
                    for place in part
                    if (name := self.structure.tensor(place)) in self.rates
                ]
                for part in width.parts
            ]
        return self.places[index]
