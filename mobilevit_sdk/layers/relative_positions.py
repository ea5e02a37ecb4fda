"""Relative positions in the scores of attention, which begin as the pixels of a convolution.

Cordonnier et al., ICLR 2020, arXiv 1911.03584: v . (|d|^2, dx, dy) with v = -alpha (1, -2 Dx, -2 Dy) is, up to a
constant that softmax does not see, -alpha |d - D|^2: a bump around the offset D, as narrow as alpha is large. Heads
with their bumps on a grid of k x k can do what a k x k convolution does.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int]  # patches: rows, columns


class RelativePositions(nn.Module):
    """A bias for each head and each offset d = (dx, dy) from a query's patch to a key's: v . (|d|^2, dx, dy).

    Shapes: () -> [num_heads, N, N] with N = prefix + rows * columns of the `grid`; 0 for the `prefix` tokens, which are
    nowhere, as queries and as keys. `table`, [num_heads, 3], holds v of each head; it is the same for every grid.
    """

    def __init__(self, num_heads: int, grid: Grid, prefix: int) -> None:
        super().__init__()
        self.num_heads, self.grid, self.prefix = num_heads, grid, prefix
        self.table = nn.Parameter(torch.empty(num_heads, 3))
        nn.init.trunc_normal_(self.table, std=0.02)
        side = math.isqrt(num_heads)
        with torch.no_grad():
            for head in range(side**2):  # those left over stay random
                center = head % side - (side - 1) / 2, head // side - (side - 1) / 2
                self.table[head] = bump(1.0, *center)

    def forward(self, grid: Grid | None = None) -> Tensor:
        """The biases of all pairs of tokens; of another `grid`, if one is given."""
        rows, columns = grid or self.grid
        like = {"dtype": self.table.dtype, "device": self.table.device}
        y = torch.arange(rows, **like).repeat_interleave(columns)  # type: ignore[call-overload]
        x = torch.arange(columns, **like).repeat(rows)  # type: ignore[call-overload]
        dy, dx = y - y[:, None], x - x[:, None]  # [query, key]
        squares, along_x, along_y = self.table[..., None, None].unbind(1)
        bias = squares * (dx**2 + dy**2) + along_x * dx + along_y * dy
        return F.pad(bias, (self.prefix, 0, self.prefix, 0))

    def no_decay(self) -> tuple[nn.Parameter, ...]:
        """A table of positions, not a matrix."""
        return (self.table,)


def bump(strength: float, dx: float, dy: float) -> Tensor:
    """The row of a head that looks around the offset (dx, dy), columns and rows of patches."""
    return -strength * torch.tensor([1.0, -2 * dx, -2 * dy])
