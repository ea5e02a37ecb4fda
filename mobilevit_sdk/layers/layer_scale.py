"""LayerScale (Touvron et al., arXiv 2103.17239, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """Each channel of a residual branch times a learned factor. Shapes: [..., dim] -> [..., dim]."""

    def __init__(self, dim: int, initial: float = 1e-4) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.constant_(torch.empty(dim), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight
