"""Palettes of 16 values for weights in 4 bits: k-means in one dimension, batched over the rows of a matrix.

Of coremltools' `kmeans1d`, which is exact for rows of any length, only a third of the rows agree to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

TABLE = 16  # values of a 4-bit palette
MAX_CUTS = 128  # places in a row where clusters may end; shorter rows are solved exactly

# Rows of fewer weights have 8 bits in `int4-weight`: with its table in float16, a palette would save them less than a
# quarter, and a depthwise kernel, of 9 weights, has fewer than the table.
MIN_PALETTE_ELEMENTS = 128


def palettes(rows: Tensor, batch: int = 256, steps: int = 20) -> tuple[Tensor, Tensor]:
    """For each row, the 16 values with the least mean square error, and which of these each number takes.

    k-means in one dimension: exact by dynamic programming (Wang and Song, "Ckmeans.1d.dp", R Journal 2011) for rows of
    up to 128 numbers; in longer rows, runs of neighbors stay together and `steps` of Lloyd's algorithm improve on the
    result. Shapes: [O, N] -> [O, 16], ascending, rounded to float16, and [O, N].
    """
    found = torch.cat([_centers(part, steps) for part in torch.split(rows, batch)]).half().float()
    return found, _nearest(rows, found)


def _centers(rows: Tensor, steps: int) -> Tensor:
    """[O, N] -> [O, 16]"""
    ordered = rows.sort(1).values
    sums = torch.nn.functional.pad(ordered.double().cumsum(1), (1, 0))  # [O, N + 1], of the values before each place
    squares = torch.nn.functional.pad(ordered.double().square().cumsum(1), (1, 0))
    cuts = _cuts(ordered)  # [O, C], the places where one cluster may end and the next begin
    at, sum_at, square_at = cuts.double(), sums.gather(1, cuts), squares.gather(1, cuts)
    count, total, square = (x[:, None, :] - x[:, :, None] for x in (at, sum_at, square_at))
    cost = (square - total.square() / count.clamp(min=1)).clamp(min=0).masked_fill(count < 0, torch.inf)  # [O, C, C]
    best, origins = cost[:, 0], list[Tensor]()
    for _ in range(TABLE - 1):
        best, origin = (best[:, :, None] + cost).min(1)
        origins.append(origin)
    ends = [torch.full_like(cuts[:, :1], cuts.shape[1] - 1)]
    for origin in reversed(origins):
        ends.insert(0, origin.gather(1, ends[0]))
    borders = torch.nn.functional.pad(cuts.gather(1, torch.cat(ends, 1)), (1, 0))  # [O, 17]
    tables = ordered[:, -1:].expand(-1, TABLE)  # for an empty cluster
    for _ in range(steps):
        count = borders.diff(dim=1)
        means = (sums.gather(1, borders).diff(dim=1) / count.clamp(min=1)).float()
        tables = torch.where(count > 0, means, tables).sort(1).values
        inner = torch.searchsorted(ordered, (tables[:, 1:] + tables[:, :-1]) / 2)
        borders = torch.cat((borders[:, :1], inner, borders[:, -1:]), 1)
    return tables


def _cuts(ordered: Tensor) -> Tensor:
    """Every place in a short row; in a long one, those at even quantiles and those at even steps of its values."""
    rows, length = ordered.shape
    if length <= MAX_CUTS:
        return torch.arange(length + 1).expand(rows, -1)
    half = torch.linspace(0, 1, MAX_CUTS // 2 + 1)
    by_count = (half * length).long().expand(rows, -1)
    by_value = torch.searchsorted(ordered, (ordered[:, :1] + (ordered[:, -1:] - ordered[:, :1]) * half).contiguous())
    return torch.cat((by_count, by_value), 1).sort(1).values


def _nearest(rows: Tensor, tables: Tensor) -> Tensor:
    return torch.searchsorted((tables[:, 1:] + tables[:, :-1]) / 2, rows.contiguous())
