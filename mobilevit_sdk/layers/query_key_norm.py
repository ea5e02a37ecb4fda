"""Queries and keys of a length of their own (query-key normalization of ViT-22B, arXiv 2302.05442, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-4  # of a squared length, which is about key_dim; as large in the mean as a LayerNorm's


class QueryKeyNorm(nn.Module):
    """Each head's queries and keys over their length, times a learned gain, so that scores stay as large as the gains.

    Shapes: [B, heads, N, key_dim], twice -> the same. x / sqrt(sum(x * x) + eps) * g is the root mean square
    normalization with its sqrt(key_dim) in the gain, which then does not depend on how many dimensions there are. The
    gains, [heads * key_dim], begin at key_dim ** 0.25: scores then begin as cosines times sqrt(key_dim), as with that
    norm and the usual 1 / sqrt(key_dim), and attention scales them no more.
    """

    def __init__(self, num_heads: int, key_dim: int) -> None:
        super().__init__()
        self.eps = EPS
        self.num_heads, self.key_dim = num_heads, key_dim
        self.q_weight, self.k_weight = (
            nn.Parameter(nn.init.constant_(torch.empty(num_heads * key_dim), key_dim**0.25)) for _ in range(2)
        )

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        gains = (weight.view(self.num_heads, 1, self.key_dim) for weight in (self.q_weight, self.k_weight))
        q_gain, k_gain = gains
        return self._unit(q) * q_gain, self._unit(k) * k_gain

    def _unit(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + self.eps)
