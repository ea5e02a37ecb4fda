"""Which units go: the least important for what they save, over the whole network, until the budget is met."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heapreplace
from math import gcd, inf

from mobilevit_sdk.channel_groups import ChannelGroup, ConfigPath
from mobilevit_sdk.pruning.cost import Budget
from mobilevit_sdk.pruning.importance import Importance
from mobilevit_sdk.pruning.structure import Pruning, Structure

Sizes = Mapping[tuple[ConfigPath, ...], int]  # of channel groups, by their paths


def step_of(group: ChannelGroup, multiple: int, size: int) -> int:
    """How many units of each part go at once, so that the tensors that hold them keep multiples of `multiple` rows.

    `size` is the group's before any pruning: a step is at most a quarter of it, whatever the multiple. Eight of sixteen
    channels at once would be half of them.
    """
    step = multiple // gcd(multiple, group.rows)
    while step > 1 and 4 * step > size:
        step //= 2
    return max(step, 1)


def sizes_of(structure: Structure) -> Sizes:
    """Sizes of all groups; those of the unpruned network limit the steps."""
    return {group.paths: group.size for group in structure.groups}


def select(
    budget: Budget, importance: Importance, target: float, *, multiple: int, sizes: Sizes | None = None
) -> Pruning:
    """Remove units until at most `target` of the budget's cost is left, or nothing more can go.

    In every round each group offers its least important units, as many of each part as `step_of` says, and each block
    offers itself. The offer with the least importance for each unit of cost that it saves is taken. What an offer saves
    only shrinks while others are taken, so an offer whose price has not risen since it was last computed is the best.
    An offer that saves far more than is still needed, where smaller ones would do for less importance, waits until no
    other is left. `sizes` are those before any pruning.
    """
    pruning = Pruning(budget.structure)
    sizes = sizes or sizes_of(budget.structure)
    offers = [_Offer("group", index, importance, budget, multiple, sizes) for index in importance.groups]
    offers += [_Offer("block", index, importance, budget, multiple, sizes) for index in importance.blocks]
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
    """What a group or a block would lose next."""

    saved = lost = 0.0  # cost and importance, by the last `price`

    def __init__(
        self, kind: str, index: int, importance: Importance, budget: Budget, multiple: int, sizes: Sizes
    ) -> None:
        self.is_block, self.index, self.budget = kind == "block", index, budget
        if self.is_block:
            self.importance = importance.blocks[index]
        else:
            self.group = budget.structure.groups[index]
            self.order = importance.groups[index].argsort(dim=1, stable=True).tolist()
            self.scores = importance.groups[index].tolist()
            self.step = step_of(self.group, multiple, sizes.get(self.group.paths, self.group.size))

    def price(self, pruning: Pruning) -> float | None:
        """Importance lost for each unit of cost that is saved; None where nothing is left to save."""
        if self.is_block:
            self.saved, self.lost = self.budget.saving_of_block(self.index), self.importance
        else:
            units = self.units(pruning)
            self.saved = self.budget.saving(self.index, units) if units else 0.0
            self.lost = sum(scores[unit] for scores, each in zip(self.scores, units, strict=False) for unit in each)
        return self.lost / self.saved if self.saved > 0 else None

    def take(self, pruning: Pruning) -> None:
        """Remove what is offered."""
        if self.is_block:
            self.budget.remove_block(self.index)
            pruning.blocks.add(self.index)
        else:
            units = self.units(pruning)
            self.budget.remove(self.index, units)
            pruning.remove(self.index, units)

    def units(self, pruning: Pruning) -> list[list[int]]:
        """The least important of the units left in each part; none where too few would stay."""
        kept = pruning.kept(self.index)
        count = kept % self.step or self.step
        if kept - count < max(self.group.minimum, self.step) or pruning.lies_in_removed_block(self.index):
            return []
        gone = self.group.size - kept
        return [part[gone : gone + count] for part in self.order]
