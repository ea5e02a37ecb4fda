"""Positions of patches on grids of any size and shape (NaViT, Dehghani et al., arXiv 2307.06304, section 3.4).

Each layer answers for tokens that say where they stand, (row, column) on a grid of (height, width) patches, so that
tokens of several images may lie in one sequence in any order; and, by `on`, for all patches of one grid.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int]  # patches: rows, columns
# The number of a patch on its axis; or its center as a share of that side of the image, or of the longer side.
Coordinates = Literal["absolute", "fractional", "aspect"]
FREQUENCIES = 8  # of `FourierPositions`, on each axis; sines turn over within a 128th of the image


class AxisPositions(nn.Module):
    """The sum of a vector for the row and one for the column; see the kinds below.

    Shapes: integers [..., N], four times -> [..., N, dim], of the type of `like`.
    """

    def __init__(self, dim: int, length: int, coordinates: Coordinates) -> None:
        super().__init__()
        self.dim, self.length, self.coordinates = dim, length, coordinates

    def forward(self, rows: Tensor, columns: Tensor, heights: Tensor, widths: Tensor, like: Tensor) -> Tensor:
        longer = torch.maximum(heights, widths)
        return self._along(0, rows, heights, longer, like) + self._along(1, columns, widths, longer, like)

    def on(self, grid: Grid, like: Tensor) -> Tensor:
        """Of all patches of a grid, row by row: [1, h w, dim]."""
        sides = [torch.tensor(side, device=like.device) for side in (*grid, max(grid))]
        vertical, horizontal = (
            self._along(axis, torch.arange(grid[axis], device=like.device), sides[axis], sides[2], like)
            for axis in (0, 1)
        )
        return (vertical[:, None] + horizontal).view(1, -1, self.dim)

    def _along(self, axis: int, index: Tensor, side: Tensor, longer: Tensor, like: Tensor) -> Tensor:
        """Shapes: [..., N] -> [..., N, dim], of an axis; `index` counts patches."""
        dtype = torch.promote_types(like.dtype, torch.float32)  # coordinates in bfloat16 would fall together
        if self.coordinates == "absolute":
            return self.vectors(axis, index.to(dtype), like)
        share = (index.to(dtype) + 0.5) / (longer if self.coordinates == "aspect" else side)
        return self.vectors(axis, share * self.length - 0.5, like)

    def vectors(self, axis: int, places: Tensor, like: Tensor) -> Tensor:
        """What stands at `places`, in patches of a grid of `length`: [..., N] -> [..., N, dim]."""
        raise NotImplementedError

    def constants(self) -> tuple[nn.Parameter, ...] | None:
        """The tables that positions are means of; None where there are none."""
        return None

    def no_decay(self) -> tuple[nn.Parameter, ...]:
        """Tables, not matrices."""
        return self.constants() or ()


class LearnedPositions(AxisPositions):
    """A learned table for each axis, `length` vectors, with linear interpolation between them (timm's `parfac`).

    Of `absolute` coordinates, one vector for each row and column; a longer side is a ValueError.
    """

    def __init__(self, dim: int, length: int, coordinates: Coordinates) -> None:
        super().__init__(dim, length, coordinates)
        self.rows = nn.Parameter(nn.init.normal_(torch.empty(1, length, dim), std=0.02))
        self.columns = nn.Parameter(nn.init.normal_(torch.empty(1, length, dim), std=0.02))

    def forward(self, rows: Tensor, columns: Tensor, heights: Tensor, widths: Tensor, like: Tensor) -> Tensor:
        if self.coordinates == "absolute" and rows.device.type == "cpu" and rows.numel():
            self.check(int(torch.maximum(rows.max(), columns.max())) + 1)
        return super().forward(rows, columns, heights, widths, like)

    def on(self, grid: Grid, like: Tensor) -> Tensor:
        if self.coordinates == "absolute":
            self.check(max(grid))
        return super().on(grid, like)

    def check(self, side: int) -> None:
        """Raise ValueError for a grid that is longer than the table."""
        if side > self.length:
            raise ValueError(f"a side of {side} patches is longer than the {self.length} learned positions")

    def vectors(self, axis: int, places: Tensor, like: Tensor) -> Tensor:
        table = (self.rows, self.columns)[axis][0]
        if self.coordinates == "absolute":
            return F.embedding(places.long(), table)
        places = places.clamp(0, self.length - 1)
        below = places.floor()
        above = (below + 1).clamp(max=self.length - 1)
        share = (places - below)[..., None].to(table.dtype)
        return torch.lerp(F.embedding(below.long(), table), F.embedding(above.long(), table), share)

    def constants(self) -> tuple[nn.Parameter, ...]:
        return self.rows, self.columns


class SinusoidalPositions(AxisPositions):
    """Sines and cosines of falling frequencies, of the row in the first half of the channels, then of the column.

    As Vaswani et al. have them, arXiv 1706.03762, section 3.5; stacked, because a sum of two of them would be the same
    for a row and a column that change places. Nothing is learned.
    """

    def vectors(self, axis: int, places: Tensor, like: Tensor) -> Tensor:
        count = self.dim // 4
        powers = torch.arange(count, device=places.device, dtype=places.dtype) / count
        angles = places[..., None] * 10_000**-powers
        waves = torch.cat([angles.sin(), angles.cos()], -1).to(like.dtype)
        return F.pad(waves, (0, self.dim // 2) if axis == 0 else (self.dim // 2, 0))


class FourierPositions(AxisPositions):
    """A learned projection, one for each axis, of sines and cosines of pi, 2 pi, 4 pi, ... times the share of a side.

    The features are NeRF's (Mildenhall et al., arXiv 2003.08934, section 5.1), the sum of projections is NaViT's.
    Absolute coordinates are shares of `length`.
    """

    def __init__(self, dim: int, length: int, coordinates: Coordinates) -> None:
        super().__init__(dim, length, coordinates)
        self.rows = nn.Linear(2 * FREQUENCIES, dim, bias=False)
        self.columns = nn.Linear(2 * FREQUENCIES, dim, bias=False)

    def vectors(self, axis: int, places: Tensor, like: Tensor) -> Tensor:
        octaves = 2.0 ** torch.arange(FREQUENCIES, device=places.device, dtype=places.dtype)
        angles = ((places + 0.5) / self.length)[..., None] * (math.pi * octaves)
        waves = torch.cat([angles.sin(), angles.cos()], -1)
        layer = (self.rows, self.columns)[axis]
        vectors: Tensor = layer(waves.to(layer.weight.dtype))
        return vectors


class TablePositions(nn.Module):
    """A learned vector for each place of a square grid, interpolated bicubically with antialias (NaFlex, timm).

    Shapes: integers [..., N], four times -> [..., N, dim]. Of `aspect` coordinates, what timm calls `par`: to the
    square of the longer side, which is then cut. The same as `F.interpolate` gives, for tokens in any order: its
    kernels of an axis are computed for each token, and their product weighs the table.
    """

    def __init__(self, dim: int, length: int, coordinates: Coordinates) -> None:
        super().__init__()
        self.length, self.coordinates = length, coordinates
        self.table = nn.Parameter(nn.init.normal_(torch.empty(1, length, length, dim), std=0.02))

    def forward(self, rows: Tensor, columns: Tensor, heights: Tensor, widths: Tensor, like: Tensor) -> Tensor:
        if self.coordinates == "aspect":
            heights = widths = torch.maximum(heights, widths)
        vertical, horizontal = (self._kernel(*axis, like) for axis in ((rows, heights), (columns, widths)))
        weights = (vertical[..., :, None] * horizontal[..., None, :]).flatten(-2).to(self.table.dtype)
        return weights @ self.table.flatten(0, 2)

    def on(self, grid: Grid, like: Tensor) -> Tensor:
        """Of all patches of a grid, row by row: [1, h w, dim]."""
        size = (max(grid), max(grid)) if self.coordinates == "aspect" else grid
        maps = self.table.permute(0, 3, 1, 2)
        if size != (self.length, self.length):
            maps = F.interpolate(maps, size, mode="bicubic", align_corners=False, antialias=True)
        return maps[:, :, : grid[0], : grid[1]].flatten(2).transpose(1, 2)

    def _kernel(self, index: Tensor, side: Tensor, like: Tensor) -> Tensor:
        """How much of each of `length` places each patch takes: [..., N] -> [..., N, length]."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        scale = self.length / side.to(dtype)
        taps = torch.arange(self.length, device=index.device, dtype=dtype) + 0.5
        center = (index.to(dtype) + 0.5) * scale
        x = ((taps - center[..., None]) / scale.clamp(min=1)[..., None]).abs()
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2  # Keys' cubic, a = -1/2
        weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
        return weights / weights.sum(-1, keepdim=True)

    def constants(self) -> tuple[nn.Parameter, ...]:
        """The table that positions are means of."""
        return (self.table,)

    def no_decay(self) -> tuple[nn.Parameter, ...]:
        """A table, not a matrix."""
        return (self.table,)


GridPositions = AxisPositions | TablePositions
KINDS: dict[str, type[AxisPositions] | type[TablePositions]] = {
    "grid": TablePositions,
    "learned": LearnedPositions,
    "sinusoidal": SinusoidalPositions,
    "fourier": FourierPositions,
}
