"""Multi-head self-attention (Vaswani et al., arXiv 1706.03762, section 3.2.2)."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.channel_groups.groups import Slice, Width, reads, width, writes
from mobilevit_sdk.layers.position_bias import PositionBias


class Attention(nn.Module):
    """Multi-head self-attention over the second axis, softmax(q k^T / sqrt(key_dim) + bias) v per head.

    Shapes: [B, N, dim] -> [B, N, dim]. The rows of `qkv` are all of q, all of k, all of v; within each, head by head.
    Of a head, q and k have `key_dim` rows each and v has `value_dim`: dim / num_heads, where they are not given. With
    `window_size`, N is its square and the bias is that of `PositionBias`; without, there is none.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        key_dim: int | None = None,
        value_dim: int | None = None,
        window_size: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if dim % num_heads and None in (key_dim, value_dim):
            raise ValueError(f"dim {dim} is not divisible by num_heads {num_heads}")
        self.num_heads = num_heads
        self.key_dim = key_dim or dim // num_heads
        self.value_dim = value_dim or dim // num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, num_heads * (2 * self.key_dim + self.value_dim))
        self.position_bias = PositionBias(num_heads, window_size) if window_size else None
        self.proj = nn.Linear(num_heads * self.value_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        keys, values = self.num_heads * self.key_dim, self.num_heads * self.value_dim
        parts = self.qkv(x).split((keys, keys, values), 2)
        q, k, v = (part.view(batch, tokens, self.num_heads, -1).transpose(1, 2) for part in parts)  # [B, heads, N, d]
        bias = self.position_bias() if self.position_bias is not None else None  # [heads, N, N]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=self.dropout if self.training else 0.0)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, values))

    def widths(self) -> Iterator[Width]:
        heads, key_dim, value_dim = self.num_heads, self.key_dim, self.value_dim
        values = 2 * heads * key_dim  # the first of their rows
        # The tensors of one head, then of dimension i of every head.
        head = (
            *writes(self.qkv, 0, key_dim),
            *writes(self.qkv, heads * key_dim, key_dim),
            *writes(self.qkv, values, value_dim),
            *reads(self.proj, 0, value_dim),
            Slice(self, "scores", 0),
            Slice(self, "answers", 0),
        )
        if self.position_bias is not None:
            head += (Slice(self.position_bias, "table", 0),)
        yield width("heads", heads, head, name="num_heads", rows=key_dim)
        queries = [writes(self.qkv, h * key_dim, effect=True) for h in range(heads)]
        keys = [(*queries[h], *writes(self.qkv, (heads + h) * key_dim)) for h in range(heads)]
        keys[0] += (Slice(self, "scores", 1),)
        rescaled = [each for query in queries for each in query]
        yield width("q/k", key_dim, *keys, name="key_dim", rows=heads, rescaled=rescaled)
        answers = [(*writes(self.qkv, values + h * value_dim), *reads(self.proj, h * value_dim)) for h in range(heads)]
        answers[0] += (Slice(self, "answers", 1),)
        yield width("v", value_dim, *answers, name="value_dim", rows=heads)

    def products(self) -> dict[str, tuple[int, ...]]:
        return {"scores": (self.num_heads, self.key_dim), "answers": (self.num_heads, self.value_dim)}
