"""Which units go: the least important for what they save, over the whole network, until the budget is met."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heapreplace
from math import gcd, inf

from mobilevit_sdk.channel_groups.groups import ConfigPath, Width
from mobilevit_sdk.pruning.cost import Budget
from mobilevit_sdk.pruning.importance import Importance
from mobilevit_sdk.pruning.structure import Pruning, Structure

Sizes = Mapping[tuple[ConfigPath, ...], int]  # of widths, by their paths


def step_of(width: Width, multiple: int, size: int) -> int:
    """How many units of each part go at once, so that the tensors that hold them keep multiples of `multiple` rows.

    A width that was small from the start, which is what `size` says, goes in finer steps, of a quarter of it at most:
    eight of sixteen channels at once would be half of them.
    """
    step = multiple // gcd(multiple, width.rows)
    while step > 1 and 4 * step > size:
        step //= 2
    return max(step, 1)


def sizes_of(structure: Structure) -> Sizes:
    """Of all widths; those of the unpruned network decide how fine the steps are."""
    return {width.paths: width.size for width in structure.widths}


def select(
    budget: Budget, importance: Importance, target: float, *, multiple: int, sizes: Sizes | None = None
) -> Pruning:
    """Let units go until at most `target` of the budget's cost is left, or nothing more can go.

    In every round the widths offer their least important units, as many of each part as `step_of` says, and blocks
    themselves; what has the least importance for each unit of cost that it saves goes. What an offer saves only
    shrinks while others are taken, so that one that was overtaken by none since it was last looked at is the best. One
    that saves so much more than is needed that smaller ones would do it for less waits until none is left. `sizes` are
    those before any pruning.
    """
    pruning = Pruning(budget.structure)
    sizes = sizes or sizes_of(budget.structure)
    offers = [_Offer("width", index, importance, budget, multiple, sizes) for index in importance.widths]
    offers += [_Offer("block", number, importance, budget, multiple, sizes) for number in importance.blocks]
    waiting: list[_Offer] = []
    heap = [(price, i) for i, offer in enumerate(offers) if (price := offer.price(pruning)) is not None]
    heapify(heap)
    while budget.left > target and heap:
        i = heap[0][1]
        price = offers[i].price(pruning)
        if price is None:
            heappop(heap)
        elif price > heap[0][0]:
            heapreplace(heap, (price, i))
        elif offers[i].lost > (budget.left - target) * min((other for other, _ in heap[1:3]), default=inf):
            waiting.append(offers[i])
            heappop(heap)
        else:
            offers[i].take(pruning)
    while budget.left > target:
        left = [(offer.lost, place) for place, offer in enumerate(waiting) if offer.price(pruning) is not None]
        if not left:
            break
        waiting[min(left)[1]].take(pruning)
    return pruning


class _Offer:
    """What a width or a block would let go next."""

    saved = lost = 0.0  # cost and importance, by the last `price`

    def __init__(
        self, kind: str, index: int, importance: Importance, budget: Budget, multiple: int, sizes: Sizes
    ) -> None:
        self.is_block, self.index, self.budget = kind == "block", index, budget
        if self.is_block:
            self.importance = importance.blocks[index]
        else:
            self.width = budget.structure.widths[index]
            self.order = importance.widths[index].argsort(dim=1, stable=True).tolist()
            self.scores = importance.widths[index].tolist()
            self.step = step_of(self.width, multiple, sizes.get(self.width.paths, self.width.size))

    def price(self, pruning: Pruning) -> float | None:
        """Importance lost for each unit of cost that is saved; None where there is nothing to save any more."""
        if self.is_block:
            self.saved, self.lost = self.budget.saving_of_block(self.index), self.importance
        else:
            units = self.units(pruning)
            self.saved = self.budget.saving(self.index, units) if units else 0.0
            self.lost = sum(scores[unit] for scores, each in zip(self.scores, units, strict=False) for unit in each)
        return self.lost / self.saved if self.saved > 0 else None

    def take(self, pruning: Pruning) -> None:
        """Let it go."""
        if self.is_block:
            self.budget.remove_block(self.index)
            pruning.blocks.add(self.index)
        else:
            units = self.units(pruning)
            self.budget.remove(self.index, units)
            pruning.remove(self.index, units)

    def units(self, pruning: Pruning) -> list[list[int]]:
        """Of each part the least important units that are left; none where too few would stay."""
        kept = pruning.kept(self.index)
        count = kept % self.step or self.step
        if kept - count < max(self.width.minimum, self.step) or pruning.lies_in_gone_block(self.index):
            return []
        gone = self.width.size - kept
        return [part[gone : gone + count] for part in self.order]
