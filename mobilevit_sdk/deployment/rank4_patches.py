"""Patches taken from a feature map, and put back, with tensors of rank 4 and less.

The rank-6 reshape [B, C, nh, p, nw, p] -> [B, p, p, nh, nw, C] is, for one image, a composition of rank-4 ones. In
channels-last order the row [nw, p, C] of pixels is contiguous, so splitting H and W one after the other needs no more:
[nh, p, nw, pC] swaps the first two axes, [p, nh nw, p, C] the middle two. Both forms move elements and compute nothing.
"""

from __future__ import annotations

from torch import Size, Tensor, nn

from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import Fold, Unfold


class Rank4Unfold(nn.Module):
    """`Unfold` for one image. Shapes: [1, C, H, W] -> [P, N, C]."""

    def __init__(self, unfold: Unfold) -> None:
        super().__init__()
        self.patch_size = unfold.patch_size

    def forward(self, x: Tensor) -> Tensor:
        _, channels, height, width = x.shape
        p = self.patch_size
        patches = (height // p) * (width // p)
        x = x.permute(0, 2, 3, 1).reshape(height // p, p, width // p, p * channels)
        x = x.permute(1, 0, 2, 3).reshape(p, patches, p, channels)  # [nh, p, nw, pC] -> [p, nh nw, p, C]
        return x.permute(0, 2, 1, 3).reshape(p * p, patches, channels)


class Rank4Fold(nn.Module):
    """`Fold` for one image. Shapes: [P, N, C] -> `size` = (1, C, H, W)."""

    def __init__(self, fold: Fold) -> None:
        super().__init__()
        self.patch_size = fold.patch_size

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        _, channels, height, width = size
        p = self.patch_size
        x = tokens.reshape(p, p, tokens.shape[1], channels).permute(0, 2, 1, 3)  # -> [p, nh nw, p, C]
        x = x.reshape(p, height // p, width // p, p * channels).permute(1, 0, 2, 3)  # -> [nh, p, nw, pC]
        return x.reshape(1, height, width, channels).permute(0, 3, 1, 2)


def patches_in_rank4(network: nn.Module) -> None:
    """Replace every Unfold and Fold by its rank-4 form, in place."""
    replace_layers(network, Unfold, Rank4Unfold)
    replace_layers(network, Fold, Rank4Fold)
