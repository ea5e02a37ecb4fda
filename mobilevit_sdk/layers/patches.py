"""From a feature map to the tokens of non-overlapping patches and back (MobileViT, arXiv 2110.02178, section 3.1)."""

from __future__ import annotations

from torch import Size, Tensor, nn


class Unfold(nn.Module):
    """Gather the pixels that share a position within their patches, so that attention runs across patches.

    Shapes: [B, C, H, W] -> [B * P, N, C], with P = patch_size**2 pixels a patch and N = H * W / P patches.
    H and W must be multiples of `patch_size`.
    """

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        p = self.patch_size
        x = x.reshape(batch, channels, height // p, p, width // p, p)
        x = x.permute(0, 3, 5, 2, 4, 1)  # [B, C, nh, p, nw, p] -> [B, p, p, nh, nw, C]
        return x.reshape(batch * p * p, height * width // (p * p), channels)


class Fold(nn.Module):
    """The inverse of `Unfold`. Shapes: [B * P, N, C] -> `size` = (B, C, H, W)."""

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        batch, channels, height, width = size
        p = self.patch_size
        x = tokens.reshape(batch, p, p, height // p, width // p, channels)
        x = x.permute(0, 5, 3, 1, 4, 2)  # [B, p, p, nh, nw, C] -> [B, C, nh, p, nw, p]
        return x.reshape(batch, channels, height, width)
