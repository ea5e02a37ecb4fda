"""Patch n' Pack: images of any proportions, several in a sequence (NaViT, Dehghani et al., arXiv 2307.06304)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobilevit_sdk.layers import to_patches
from mobilevit_sdk.tasks.draws import Draws

MORE_SEQUENCES = 3  # than first fit needs, short of one, that a plan tries
LONGEST = 4.0  # times as long as wide: of a longer strip, only the middle is seen


@dataclass(frozen=True)
class PackedImages:
    """Images in sequences, as `forward_packed` takes them, and where each image's answer will stand.

    Shapes: patches [B, N, patch_size * patch_size * channels]; all but the last two integers [B, N], -1 in `owners` for
    padding; `sequences` and `numbers` integers [images].
    """

    patches: Tensor
    rows: Tensor
    columns: Tensor
    heights: Tensor
    widths: Tensor
    owners: Tensor
    sequences: Tensor
    numbers: Tensor

    @property
    def padding(self) -> float:
        """The share of all places that no patch fills."""
        return float((self.owners < 0).float().mean())

    def scores(self, model: nn.Module) -> Tensor:
        """Class scores of each image: [images, num_classes]."""
        places = self.rows, self.columns, self.heights, self.widths, self.owners
        count = int(self.numbers.max()) + 1
        scores: Tensor = model.forward_packed(self.patches, *places, count)  # type: ignore[operator]
        return scores[self.sequences, self.numbers]


def first_fit(lengths: Sequence[int], capacity: int, most: int) -> list[list[int]]:
    """Which items share a sequence: each, in its order, goes into the first that has room.

    A sequence takes `capacity` in length and `most` items. Raises ValueError for an item that is longer.
    """
    found: list[list[int]] = []
    room: list[int] = []
    for item, length in enumerate(lengths):
        if length > capacity:
            raise ValueError(f"an image of {length} tokens does not fit into sequences of {capacity}")
        place = next((i for i, free in enumerate(room) if free >= length and len(found[i]) < most), None)
        if place is None:
            place = len(found)
            found.append([])
            room.append(capacity)
        found[place].append(item)
        room[place] -= length
    return found


def plan_sequences(lengths: Sequence[int], capacity: int, most: int) -> list[list[int]]:
    """Sequences of the same length that compute as few places as can be found.

    With the full `capacity` the last sequence of a batch would be half empty, and all places are computed. So this
    takes what first fit finds, longest first, and then as many sequences, one less and a few more, each item in the
    shortest so far; in all of them items change places until no exchange makes the longest sequence shorter.
    """
    order = sorted(range(len(lengths)), key=lambda item: -lengths[item])
    fitted = first_fit([lengths[item] for item in order], capacity, most)
    plans = [[[order[item] for item in items] for items in fitted]]
    fewest = max(1, len(fitted) - 1, -(-len(lengths) // most))
    counts = range(fewest, min(len(fitted) + MORE_SEQUENCES, len(lengths) + 1))
    plans += [_shortest_first(lengths, order, count, most) for count in counts]
    for plan in plans:
        _level(lengths, plan, most)
    able = [plan for plan in plans if _longest(lengths, plan) <= capacity]
    return min(able, key=lambda plan: len(plan) * _longest(lengths, plan))


def _shortest_first(lengths: Sequence[int], order: Sequence[int], count: int, most: int) -> list[list[int]]:
    """Each item, in `order`, into the shortest of `count` sequences that has fewer than `most`."""
    plan: list[list[int]] = [[] for _ in range(count)]
    totals = [0] * count
    for item in order:
        place = min((each for each in range(count) if len(plan[each]) < most), key=totals.__getitem__)
        plan[place].append(item)
        totals[place] += lengths[item]
    return plan


def _level(lengths: Sequence[int], plan: list[list[int]], most: int) -> None:
    """Move an item of the longest sequence, or exchange it for a shorter one, for as long as that helps.

    Each time the two sequences whose longer one is then the shortest; so lengths fall, and this ends.
    """
    totals = [sum(lengths[item] for item in items) for items in plan]
    while True:
        source = max(range(len(plan)), key=totals.__getitem__)
        changes = []
        for place, items in enumerate(plan):
            partners = [*items, None] if len(items) < most else items
            for item in plan[source]:
                for partner in partners:
                    less = lengths[item] - (0 if partner is None else lengths[partner])
                    if 0 < less < totals[source] - totals[place]:
                        changes.append((max(totals[source] - less, totals[place] + less), place, item, partner, less))
        if not changes:
            return
        _, place, item, partner, less = min(changes, key=lambda change: change[0])
        plan[source].remove(item)
        plan[place].append(item)
        if partner is not None:
            plan[place].remove(partner)
            plan[source].append(partner)
        totals[source] -= less
        totals[place] += less


def _longest(lengths: Sequence[int], plan: Sequence[Sequence[int]]) -> int:
    return max(sum(lengths[item] for item in items) for items in plan)


def pack(
    images: Sequence[Tensor], patch_size: int, capacity: int, most: int, kept: Sequence[Tensor] | None = None
) -> PackedImages:
    """Sequences of the patches of `images`, each [channels, H, W] of whole patches.

    `kept` says which patches of each image, counted row by row, are seen: token drop. A sequence has at most `capacity`
    of them and at most `most` images.
    """
    seen = kept if kept is not None else [torch.arange(_count(image, patch_size)) for image in images]
    plan = plan_sequences([len(each) for each in seen], capacity, most)
    length = _longest([len(each) for each in seen], plan)
    channels = images[0].shape[0]
    patches = images[0].new_zeros(len(plan), length, patch_size * patch_size * channels)
    places = torch.zeros(5, len(plan), length, dtype=torch.int64)
    places[2:4] = 1  # padding is a patch of an image of one
    places[4] = -1
    answers = torch.zeros(2, len(images), dtype=torch.int64)
    for sequence, items in enumerate(plan):
        start = 0
        for number, item in enumerate(items):
            image, own = images[item], seen[item]
            height, width = (side // patch_size for side in image.shape[1:])
            stop = start + len(own)
            patches[sequence, start:stop] = to_patches(image[None], patch_size)[0][own]
            rows, columns = own // width, own % width
            ones = torch.ones_like(own)
            places[:, sequence, start:stop] = torch.stack([rows, columns, height * ones, width * ones, number * ones])
            answers[:, item] = torch.tensor([sequence, number])
            start = stop
    device = patches.device
    return PackedImages(patches, *places.to(device).unbind(0), *answers.to(device).unbind(0))


def grid_of(proportions: float, side: float, patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches of an image, `proportions` = width / height, with about side x side pixels, not more.

    Of the grids around the exact one, that which comes closest in proportions and size; an image has at least a patch.
    """
    limit = max(1, int((side / patch_size) ** 2 + 1e-6))
    proportions = min(max(proportions, 1 / LONGEST), LONGEST)
    exact = math.sqrt(limit / proportions)
    grids = [
        (rows, min(columns, limit // rows))
        for rows in {max(1, min(limit, number)) for number in (math.floor(exact), math.ceil(exact))}
        for columns in (math.floor(exact * proportions), math.ceil(exact * proportions))
        if columns
    ]
    return min(
        sorted(grids) or [(limit, 1)],
        key=lambda grid: abs(math.log(grid[1] / grid[0] / proportions)) + math.log(limit / (grid[0] * grid[1])),
    )


def draw_kept(counts: Sequence[int], drop: float, draws: Draws) -> list[Tensor]:
    """Which patches of each image are seen, in order: a random part, whose size has a rate of its own for each image.

    Rates follow Beta(4 drop, 4 (1 - drop)), whose mean is `drop`; an image keeps at least one patch.
    """
    from scipy.special import betaincinv

    quantiles = draws.uniform().double().numpy()
    rates = betaincinv(4 * drop, 4 * (1 - drop), quantiles) if 0 < drop < 1 else [drop] * len(counts)
    order = draws.uniform(max(counts))
    return [
        own[:count].argsort(stable=True)[: max(1, round(count * (1 - float(rate))))].sort().values
        for own, count, rate in zip(order, counts, rates, strict=True)
    ]


def _count(image: Tensor, patch_size: int) -> int:
    return math.prod(side // patch_size for side in image.shape[1:])
