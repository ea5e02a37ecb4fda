"""Pooling by attention of a learned query (Zhai et al., arXiv 2106.04560, section 3.3; NaViT, arXiv 2307.06304)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionPool(nn.Module):
    """What one learned query takes from the tokens of an image: softmax(query k^T / sqrt(key_dim)) v per head.

    Shapes: [B, N, dim] -> [B, dim]; with `members` [B, images, N], which tokens belong to which image of a sequence,
    [B, images, dim]. `query` is [heads * key_dim], the projection of a learned token. The rows of `kv` are all of k,
    then all of v; within each, head by head. An image without tokens answers for all tokens, which means nothing.
    """

    def __init__(
        self, dim: int, num_heads: int, *, key_dim: int | None = None, value_dim: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.key_dim = key_dim or dim // num_heads
        self.value_dim = value_dim or dim // num_heads
        self.query = nn.Parameter(nn.init.normal_(torch.empty(num_heads * self.key_dim)))
        self.kv = nn.Linear(dim, num_heads * (self.key_dim + self.value_dim), bias=bias)
        self.proj = nn.Linear(num_heads * self.value_dim, dim, bias=bias)

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        batch, tokens, _ = x.shape
        images = 1 if members is None else members.shape[1]
        parts = self.kv(x).split((self.num_heads * self.key_dim, self.num_heads * self.value_dim), 2)
        k, v = (part.view(batch, tokens, self.num_heads, -1).transpose(1, 2) for part in parts)
        q = self.query.view(1, self.num_heads, 1, self.key_dim).expand(batch, -1, images, -1)
        mask = None if members is None else (members | ~members.any(2, keepdim=True))[:, None]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
        pooled: Tensor = self.proj(x.reshape(batch, images, self.num_heads * self.value_dim))
        return pooled[:, 0] if members is None else pooled
