"""What a network costs, tensor by tensor, and how much of that is saved when units go.

A layer takes as many multiply-accumulates as its weight has elements, times its output positions; a product of two
activations takes a number in proportion to its sizes; microseconds are in proportion to both, to the precision of a
table. The elements left of a tensor are the product of the indices left along its axes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import prod

import numpy as np
from torch import Tensor, nn

from mobilevit_sdk.channel_groups import product_weights, products
from mobilevit_sdk.layers.flops import macs_by_module
from mobilevit_sdk.layers.hooks import forward_hooks
from mobilevit_sdk.pruning.structure import Axis, Structure


def mac_rates(structure: Structure, image_size: tuple[int, int]) -> dict[str, float]:
    """Multiply-accumulates on one image of (H, W) pixels for each element of a layer's weight, or of a product.

    A product is as large as its sizes multiplied (`channel_groups.HasProducts`); where a module computes several, they
    share what it takes beside its layers by their `product_weights`.
    """
    rates: dict[str, float] = {}
    layers: dict[nn.Module, str] = {
        m: n for n, m in structure.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
    }
    attention = {m: n for n, m in structure.model.named_modules() if products(m)}
    weights: dict[nn.Module, Mapping[str, float]] = {}

    def count(layer: nn.Module, inputs: object, output: Tensor) -> None:
        channels_last = isinstance(layer, nn.Linear)
        positions = output.numel() // output.shape[-1 if channels_last else 1]
        rates[f"{layers[layer]}.weight"] = positions

    def weigh(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        weights[module] = product_weights(module, inputs)

    with forward_hooks(before=[(m, weigh) for m in attention], after=[(layer, count) for layer in layers]):
        macs = macs_by_module(structure.model, image_size)
    for module, name in attention.items():
        whole = macs[name]
        layers_within = sum(
            rate * prod(structure.shapes[tensor]) for tensor, rate in rates.items() if tensor.startswith(f"{name}.")
        )
        elements = {product: prod(shape) for product, shape in products(module).items()}
        unit = (whole - layers_within) / sum(weights[module][product] * each for product, each in elements.items())
        rates |= {f"{name}.{product}": unit * weights[module][product] for product in elements}
    return rates


def parameter_rates(structure: Structure) -> dict[str, float]:
    """One for each element of every parameter."""
    return {name: 1.0 for name, _ in structure.model.named_parameters()}


class Budget:
    """The cost of what is left while units go one after another; `rates` is what one element of each tensor costs."""

    def __init__(self, structure: Structure, rates: Mapping[str, float]) -> None:
        self.structure, self.rates = structure, dict(rates)
        self.counts = {name: list(structure.shapes[name]) for name in rates}
        self.masks: dict[Axis, np.ndarray] = {}
        self.places: dict[int, list[list[tuple[Axis, np.ndarray]]]] = {}
        self.total = sum(self._cost(name, self.counts[name]) for name in rates)
        self.left = self.total

    def saving(self, index: int, units: list[list[int]]) -> float:
        """The cost that goes with these units of each part of a group."""
        fewer: dict[str, list[int]] = {}
        for (name, axis), rows in self._rows(index, units).items():
            counts = fewer.setdefault(name, list(self.counts[name]))
            mask = self.masks.get((name, axis))
            counts[axis] -= len(rows) if mask is None else int(mask[rows].sum())
        return sum(self._cost(name, self.counts[name]) - self._cost(name, counts) for name, counts in fewer.items())

    def remove(self, index: int, units: list[list[int]]) -> None:
        """Remove them."""
        self.left -= self.saving(index, units)
        for (name, axis), rows in self._rows(index, units).items():
            mask = self.masks.setdefault((name, axis), np.ones(self.structure.shapes[name][axis], bool))
            mask[rows] = False
            self.counts[name][axis] = int(mask.sum())

    def saving_of_block(self, index: int) -> float:
        """The cost that goes with all that is left of a block."""
        return sum(self._cost(name, self.counts[name]) for name in self.tensors_of_block(index))

    def remove_block(self, index: int) -> None:
        """Remove it."""
        self.left -= self.saving_of_block(index)
        for name in self.tensors_of_block(index):
            self.counts[name] = [0] * len(self.counts[name])

    def tensors_of_block(self, index: int) -> list[str]:
        """Those within a block that cost something."""
        return [name for name in self.structure.tensors_of(self.structure.blocks[index]) if name in self.rates]

    def _cost(self, name: str, counts: list[int]) -> float:
        return self.rates[name] * prod(counts)

    def _rows(self, index: int, units: list[list[int]]) -> dict[Axis, np.ndarray]:
        """Along each axis that costs something, the indices of these units of a group."""
        found: dict[Axis, list[np.ndarray]] = defaultdict(list)
        for chosen, axes in zip(units, self._places(index), strict=True):
            for axis, rows in axes:
                found[axis].append(rows[chosen].ravel())
        return {axis: (rows := np.concatenate(each))[rows >= 0] for axis, each in found.items()}

    def _places(self, index: int) -> list[list[tuple[Axis, np.ndarray]]]:
        """For each part of a group, indices along axes [size, rows]; -1 where a unit has none."""
        if index not in self.places:
            group = self.structure.groups[index]
            self.places[index] = [
                [
                    ((name, place.axis), self.structure.matrix(place, group.size))
                    for place in part
                    if (name := self.structure.tensor(place)) in self.rates
                ]
                for part in group.parts
            ]
        return self.places[index]
