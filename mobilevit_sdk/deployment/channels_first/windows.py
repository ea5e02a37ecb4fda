"""Transformers within windows on channels-first tokens [1, C, P, N]: P windows of N positions each.

Positions (y, x) of windows (a, b) stand at [C, a w + y, b w + x] of the map. Taken as [C rows, y, b, x], which moves
nothing, they become [C rows, b, y, x] by one exchange of the middle axes: that is [1, C, P, N]. Where windows are as
wide as the map, there is nothing to exchange. Only attention needs the windows; everything else works on the map.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Size, Tensor, nn

from mobilevit_sdk.deployment.channels_first.attention import ChannelsFirstAttention
from mobilevit_sdk.deployment.channels_first.norm import ChannelsFirstNorm
from mobilevit_sdk.deployment.channels_first.pointwise import PointwiseMLP
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import WindowTransformer
from mobilevit_sdk.layers.window_transformer import WindowTransformerBlock


class ChannelsFirstWindows(nn.Module):
    """`WindowPartition` of the map of one image. Shapes: [1, C, H, W] -> [1, C, windows, N]."""

    def __init__(self, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size

    def forward(self, x: Tensor) -> Tensor:
        _, channels, height, width = x.shape
        w = self.window_size
        rows, columns = -(-height // w), -(-width // w)
        if (rows * w, columns * w) != (height, width):
            x = F.pad(x, (0, columns * w - width, 0, rows * w - height))
        if columns > 1:
            x = x.reshape(channels * rows, w, columns, w).permute(0, 2, 1, 3)  # [C nh, w, nw, w] -> [C nh, nw, w, w]
        return x.reshape(1, channels, rows * columns, w * w)


class ChannelsFirstWindowReverse(nn.Module):
    """`WindowReverse` to the map of one image. Shapes: [1, C, windows, N] -> `size` = (1, C, H, W)."""

    def __init__(self, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size

    def forward(self, windows: Tensor, size: Size) -> Tensor:
        _, channels, height, width = size
        w = self.window_size
        rows, columns = -(-height // w), -(-width // w)
        if columns > 1:
            windows = windows.reshape(channels * rows, columns, w, w).permute(0, 2, 1, 3)
        x = windows.reshape(1, channels, rows * w, columns * w)
        return x if (rows * w, columns * w) == (height, width) else x[:, :, :height, :width]


class ChannelsFirstWindowBlock(nn.Module):
    """The inference form of `WindowTransformerBlock`. Shapes: [1, C, H, W] -> [1, C, H, W]."""

    def __init__(self, block: WindowTransformerBlock) -> None:
        super().__init__()
        self.partition = ChannelsFirstWindows(block.partition.window_size)
        self.norm1 = ChannelsFirstNorm(block.norm1)
        self.attention = ChannelsFirstAttention(block.attention)
        self.reverse = ChannelsFirstWindowReverse(block.reverse.window_size)
        self.local_conv = block.local_conv
        self.norm2 = ChannelsFirstNorm(block.norm2)
        self.mlp = PointwiseMLP(block.mlp)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.reverse(self.attention(self.norm1(self.partition(x))), x.shape)
        x = self.local_conv(x)
        return x + self.mlp(self.norm2(x))


def windows_channels_first(network: nn.Module) -> None:
    """Replace every WindowTransformer by its form on a channels-first map, in place."""
    replace_layers(network, WindowTransformer, _channels_first)


def _channels_first(transformer: WindowTransformer) -> nn.Module:
    return nn.Sequential(*(ChannelsFirstWindowBlock(cast("WindowTransformerBlock", block)) for block in transformer))
