"""Re-attention (DeepViT, arXiv 2103.11886, section 4.2)."""

from __future__ import annotations

from torch import Tensor, nn


class HeadMixing(nn.Module):
    """New maps of attention, each a mix of all heads': a 1x1 convolution over heads, BatchNorm, and a constant factor.

    Shapes: [B, heads, N, N] -> [B, heads, N, N]. As in the authors' code (zhoudaquan/dvit_repo), where the paper has a
    matrix and an unnamed norm; rows do not sum to 1 afterwards, and may be negative.
    """

    def __init__(self, num_heads: int, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(num_heads, num_heads, 1)
        self.norm = nn.BatchNorm2d(num_heads)

    def forward(self, maps: Tensor) -> Tensor:
        mixed: Tensor = self.norm(self.conv(maps))
        return mixed if self.factor == 1 else mixed * self.factor
