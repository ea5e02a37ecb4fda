"""Multi-head self-attention (Vaswani et al., arXiv 1706.03762, section 3.2.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.layers.position_bias import PositionBias


class Attention(nn.Module):
    """Multi-head self-attention over the second axis, softmax(q k^T / sqrt(head_dim) + bias) v per head.

    Shapes: [B, N, dim] -> [B, N, dim]. The rows of `qkv` are all of q, all of k, all of v; within each, head by head.
    With `window_size`, N is its square and the bias is that of `PositionBias`; without, there is none.
    """

    def __init__(self, dim: int, num_heads: int, *, window_size: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not divisible by num_heads {num_heads}")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.position_bias = PositionBias(num_heads, window_size) if window_size else None
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, N, 3, heads, d] -> 3 x [B, heads, N, d]
        bias = self.position_bias() if self.position_bias is not None else None  # [heads, N, N]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=self.dropout if self.training else 0.0)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, dim))
