"""Multi-head attention whose queries, keys and values come from different tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """softmax(q k^T / sqrt(key_dim)) v per head (Vaswani et al., arXiv 1706.03762, section 3.2.2).

    Shapes: [B, N, dim], [B, M, dim], [B, M, dim] -> [B, N, dim]. As in torch's own attention, `qkv` is one linear: its
    first rows make q of `queries`, the next k of `keys`, the last v of `values`; in each, head by head. q and k have
    `key_dim` rows a head and v has `value_dim`.
    """

    def __init__(self, dim: int, num_heads: int, key_dim: int, value_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        self.dropout = dropout
        self.qkv = nn.Linear(dim, sum(self.rows))
        self.proj = nn.Linear(num_heads * value_dim, dim)

    @property
    def rows(self) -> list[int]:
        """How many rows of `qkv` make q, k and v."""
        keys = self.num_heads * self.key_dim
        return [keys, keys, self.num_heads * self.value_dim]

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        weights, biases = torch.split(self.qkv.weight, self.rows), torch.split(self.qkv.bias, self.rows)
        tokens = (queries, keys, values)
        q, k, v = (self._heads(F.linear(*each)) for each in zip(tokens, weights, biases, strict=True))
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        out: Tensor = self.proj(x.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """Shapes: [B, N, heads * d] -> [B, heads, N, d]."""
        return x.view(x.shape[0], x.shape[1], self.num_heads, -1).transpose(1, 2)
