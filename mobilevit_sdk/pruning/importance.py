"""How important each unit is.

`taylor`: the first-order change of the loss without it, |sum of gradient times weight over the unit|, averaged over
batches (Molchanov et al., arXiv 1906.10771, equation 8 with the unit as one group; EfficientViT, arXiv 2305.07027,
section 3.3). `magnitude`: the Euclidean norm of its weights over the mean of its group (Li et al., arXiv 1608.08710,
made comparable between layers). `bn-scale`: the gains of its BatchNorms (Liu et al., arXiv 1708.06519). `random`: a
control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mobilevit_sdk.channel_groups import ChannelGroup, RemovableBlock
from mobilevit_sdk.layers.hooks import forward_hooks
from mobilevit_sdk.pruning.structure import Axis, Structure

Batch = tuple[Tensor, Any]  # input of the model [B, 3, H, W], and labels [B] or other targets
Loss = Callable[[Any, Any], Tensor]  # of a model's answers and these targets: a scalar


@dataclass(frozen=True)
class Importance:
    """By its index, [parts, size] for each channel group and one number for each block; absent where it is unknown."""

    groups: dict[int, Tensor]
    blocks: dict[int, float]


def taylor(structure: Structure, loss: Loss, batches: Iterable[Batch], report: Callable[[int], None]) -> Importance:
    """By gradients of the loss, in eval mode; `report` is called with the number of images done."""
    model = structure.model
    training = model.training
    sums = {index: torch.zeros(len(group.parts), group.size) for index, group in enumerate(structure.groups)}
    of_blocks = dict.fromkeys(range(len(structure.blocks)), 0.0)
    count = done = 0
    with _gates(structure.blocks) as gates:
        for images, targets in batches:
            model.eval().zero_grad(set_to_none=True)
            gates.clear()
            loss(model(images), targets).backward()  # type: ignore[no-untyped-call]
            effects = _Effects(structure)
            for index, group in enumerate(structure.groups):
                sums[index] += effects.of(group).abs()
            for index in of_blocks:
                of_blocks[index] += abs(gates.get(index, 0.0))
            count, done = count + 1, done + len(images)
            report(done)
    model.zero_grad(set_to_none=True)
    model.train(training)
    return Importance(
        {index: total / count for index, total in sums.items()},
        {index: total / count for index, total in of_blocks.items()},
    )


class _Effects:
    """Gradient times weight, summed over all axes but one; computed once for each axis that is needed."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.parameters = dict(structure.model.named_parameters())
        self.along: dict[Axis, Tensor] = {}

    def of(self, group: ChannelGroup) -> Tensor:
        """The sums of each part's units, [parts, size]."""
        found = torch.zeros(len(group.parts), group.size)
        for part, places in enumerate(group.parts):
            for place in places:
                if place.effect:
                    along = self._along(self.structure.tensor(place), place.axis)
                    rows = along[place.start : place.start + group.size * place.rows]
                    found[part] += rows.view(group.size, place.rows).sum(1)
        return found

    def _along(self, name: str, axis: int) -> Tensor:
        if (name, axis) not in self.along:
            parameter = self.parameters[name]
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            product = (gradient * parameter.detach()).movedim(axis, 0)
            self.along[name, axis] = product.flatten(1).sum(1).float().cpu() if product.ndim > 1 else product.cpu()
        return self.along[name, axis]


@contextmanager
def _gates(blocks: list[RemovableBlock]) -> Iterator[dict[int, float]]:
    """After backward, the first-order change of the loss if a block passed on its input, by the block's index."""
    found: dict[int, float] = {}

    def watch(index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            change = (inputs[0] - output).detach()
            output.register_hook(lambda gradient: found.update({index: float((gradient * change).sum())}))  # type: ignore[no-untyped-call]

        return hook

    with forward_hooks(after=[(block.module, watch(index)) for index, block in enumerate(blocks)]):
        yield found


@torch.no_grad()
def magnitude(structure: Structure) -> Importance:
    """By weights alone, which say nothing of blocks."""
    return Importance({i: _norms(structure, group) for i, group in enumerate(structure.groups)}, {})


def _norms(structure: Structure, group: ChannelGroup) -> Tensor:
    parameters = dict(structure.model.named_parameters())
    squares = torch.zeros(len(group.parts), group.size)
    for part, places in enumerate(group.parts):
        for place in places:
            if (parameter := parameters.get(structure.tensor(place))) is None:
                continue
            along = parameter.square().movedim(place.axis, 0).reshape(parameter.shape[place.axis], -1).sum(1)
            if place.unit is not None:
                squares[part, place.unit] += along.sum().float()
            else:
                rows = along[place.start : place.start + group.size * place.rows]
                squares[part] += rows.view(group.size, place.rows).sum(1).float()
    return squares.sqrt() / squares.sqrt().mean().clamp(min=1e-12)


@torch.no_grad()
def batch_norm_scale(structure: Structure) -> Importance:
    """By the mean gain of BatchNorms, which says nothing of groups without one, nor of blocks."""
    found: dict[int, Tensor] = {}
    for index, group in enumerate(structure.groups):
        gains: list[list[Tensor]] = [
            [
                place.owner.weight[place.start : place.start + group.size].abs().float()
                for place in places
                if isinstance(place.owner, nn.BatchNorm2d) and place.tensor == "weight" and place.unit is None
            ]
            for places in group.parts
        ]
        if all(gains):
            found[index] = torch.stack([torch.stack(each).mean(0) for each in gains])
    return Importance(found, {})


def random(structure: Structure, seed: int) -> Importance:
    """Uniform in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return Importance(
        {i: torch.rand(len(group.parts), group.size, generator=generator) for i, group in enumerate(structure.groups)},
        {},
    )
