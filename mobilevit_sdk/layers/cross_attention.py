"""Multi-head attention whose queries, keys and values come from different tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """softmax(q k^T / sqrt(dim / num_heads)) v per head (Vaswani et al., arXiv 1706.03762, section 3.2.2).

    Shapes: [B, N, dim], [B, M, dim], [B, M, dim] -> [B, N, dim]. As in torch's own attention, `qkv` is one linear: its
    first `dim` rows make q of `queries`, the next k of `keys`, the last v of `values`; in each, head by head.
    """

    def __init__(self, dim: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not divisible by num_heads {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        weights, biases = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        tokens = (queries, keys, values)
        q, k, v = (self._heads(F.linear(*each)) for each in zip(tokens, weights, biases, strict=True))
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        out: Tensor = self.proj(x.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """Shapes: [B, N, dim] -> [B, heads, N, dim / heads]."""
        return x.view(x.shape[0], x.shape[1], self.num_heads, -1).transpose(1, 2)
