"""Stochastic depth (Huang et al., arXiv 1603.09382)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """In training, drop a residual branch for a whole sample with probability `p` and scale the rest by 1 / (1 - p).

    Shapes: [B, ...] -> [B, ...]; `groups` consecutive rows of the first axis belong to one sample and drop together.
    """

    def __init__(self, p: float, *, groups: int = 1) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"the probability of stochastic depth must be in [0, 1), not {p}")
        self.p = p
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        samples = x.shape[0] // self.groups
        keep = torch.rand(samples, device=x.device).ge(self.p).to(x.dtype).div_(1 - self.p)
        return x * keep.repeat_interleave(self.groups).view(-1, *[1] * (x.dim() - 1))
