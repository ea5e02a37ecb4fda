"""From a feature map to non-overlapping square windows and back (Swin, arXiv 2103.14030, section 3.2, no shift)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Size, Tensor, nn


class WindowPartition(nn.Module):
    """Cut a map into windows, padded with zeros at the bottom and right to a multiple of the window.

    Shapes: [B, H, W, C] -> [B * windows, N, C], with N = window_size**2 positions, row by row.
    """

    def __init__(self, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        w = self.window_size
        x = F.pad(x, (0, 0, 0, -width % w, 0, -height % w))
        rows, columns = x.shape[1] // w, x.shape[2] // w
        x = x.reshape(batch, rows, w, columns, w, channels).transpose(2, 3)  # [B, nh, w, nw, w, C] -> [B, nh, nw, ...]
        return x.reshape(batch * rows * columns, w * w, channels)


class WindowReverse(nn.Module):
    """The inverse of `WindowPartition`, with the padding cut off. Shapes: [B * windows, N, C] -> [B, H, W, C].

    B, H and W are those of `size`, C is that of the windows.
    """

    def __init__(self, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size

    def forward(self, windows: Tensor, size: Size) -> Tensor:
        batch, height, width, _ = size
        w = self.window_size
        rows, columns = -(-height // w), -(-width // w)
        x = windows.reshape(batch, rows, columns, w, w, -1).transpose(
            2, 3
        )  # [B, nh, nw, w, w, C] -> [B, nh, w, nw, ...]
        return x.reshape(batch, rows * w, columns * w, -1)[:, :height, :width]
