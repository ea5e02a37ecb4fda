"""Relative position bias of attention within a window (LeViT, arXiv 2104.01136, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PositionBias(nn.Module):
    """A learned bias for each head and each absolute offset between two positions of a square window.

    Shapes: () -> [num_heads, N, N] with N = window_size**2. `table` is [num_heads, window_size**2]: its columns are the
    offsets (|dy|, |dx|), row by row.
    """

    index: Tensor

    def __init__(self, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.table = nn.Parameter(torch.zeros(num_heads, window_size**2))
        along = torch.arange(window_size)
        offset = (along[:, None] - along).abs()  # [w, w], between two rows or two columns
        index = offset[:, None, :, None] * window_size + offset[None, :, None, :]  # [y, x, y', x']
        self.register_buffer("index", index.reshape(window_size**2, window_size**2), persistent=False)

    def forward(self) -> Tensor:
        return self.table[:, self.index]

    def resized_table(self, window_size: int) -> Tensor:
        """The table for a window of another size, bicubically interpolated between offsets, as the releases do it."""
        if window_size == self.window_size:
            return self.table
        maps = self.table.detach().view(1, self.num_heads, self.window_size, self.window_size)
        resized = F.interpolate(maps, (window_size, window_size), mode="bicubic", align_corners=False)
        return resized.view(self.num_heads, window_size**2)

    def tables_for(self, resized: nn.Module) -> Mapping[str, Tensor]:
        """See `layers.traits.HasSizedTables`."""
        assert isinstance(resized, PositionBias)
        return {"table": self.resized_table(resized.window_size)}

    def no_decay(self) -> tuple[nn.Parameter, ...]:
        """A table of scores, not a matrix."""
        return (self.table,)
