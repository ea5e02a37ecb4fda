"""Windows cut from a feature map, and put together again, with tensors of rank 4 and less.

The rank-6 reshape [B, nh, w, nw, w, C] -> [B, nh, nw, w, w, C] is, for one image, a rank-4 one: the row [w, C] of a
window's pixels is contiguous, so [nh, w, nw, wC] swaps its middle axes. Where windows are as wide as the map there is
nothing to swap. Both forms move elements, pad with zeros, and compute nothing.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Size, Tensor, nn

from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import WindowPartition, WindowReverse


class Rank4WindowPartition(nn.Module):
    """`WindowPartition` for one image. Shapes: [1, H, W, C] -> [windows, N, C]."""

    def __init__(self, partition: WindowPartition) -> None:
        super().__init__()
        self.window_size = partition.window_size

    def forward(self, x: Tensor) -> Tensor:
        _, height, width, channels = x.shape
        w = self.window_size
        rows, columns = -(-height // w), -(-width // w)
        if (rows * w, columns * w) != (height, width):
            x = F.pad(x, (0, 0, 0, columns * w - width, 0, rows * w - height))
        if columns > 1:
            x = x.reshape(rows, w, columns, w * channels).permute(0, 2, 1, 3)  # [nh, w, nw, wC] -> [nh, nw, w, wC]
        return x.reshape(rows * columns, w * w, channels)


class Rank4WindowReverse(nn.Module):
    """`WindowReverse` for one image. Shapes: [windows, N, C] -> `size` (1, H, W, C); C is that of the windows."""

    def __init__(self, reverse: WindowReverse) -> None:
        super().__init__()
        self.window_size = reverse.window_size

    def forward(self, windows: Tensor, size: Size) -> Tensor:
        _, height, width, _ = size
        channels = windows.shape[-1]
        w = self.window_size
        rows, columns = -(-height // w), -(-width // w)
        if columns > 1:
            windows = windows.reshape(rows, columns, w, w * channels).permute(0, 2, 1, 3)
        x = windows.reshape(1, rows * w, columns * w, channels)
        return x if (rows * w, columns * w) == (height, width) else x[:, :height, :width]


def windows_in_rank4(network: nn.Module) -> None:
    """Replace every WindowPartition and WindowReverse by its rank-4 form, in place."""
    replace_layers(network, WindowPartition, Rank4WindowPartition)
    replace_layers(network, WindowReverse, Rank4WindowReverse)
