"""Multi-head self-attention (Vaswani et al., arXiv 1706.03762, section 3.2.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.layers.head_mixing import HeadMixing
from mobilevit_sdk.layers.position_bias import PositionBias
from mobilevit_sdk.layers.query_key_norm import QueryKeyNorm
from mobilevit_sdk.layers.relative_positions import RelativePositions


class Attention(nn.Module):
    """Multi-head self-attention over the second axis, softmax(q k^T / sqrt(key_dim) + bias) v per head.

    Shapes: [B, N, dim] -> [B, N, dim]. The rows of `qkv` are all of q, all of k, all of v; within each, head by head.
    In each head, q and k have `key_dim` rows and v has `value_dim`; both default to dim / num_heads. With
    `window_size`, N is its square and the bias is a `PositionBias`; with `positions`, it is what these answer; without
    either there is no bias. Where only the first tokens of the answer are read, `num_queries` may be set to their
    number: [B, N, dim] -> [B, num_queries, dim].
    With `re_attention`, the factor of a `HeadMixing`, the maps of all heads are mixed before they weigh the values.
    With `qk_norm`, queries and keys pass a `QueryKeyNorm`, whose gains take the place of the scale. A `mask`, boolean
    and [B, 1, N, N], says which keys (the last axis) a query sees; each must see one. Where it is of floats, [heads, N,
    N], it is added in the place of the bias.
    """

    num_queries: int | None = None

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        key_dim: int | None = None,
        value_dim: int | None = None,
        window_size: int | None = None,
        positions: RelativePositions | None = None,
        dropout: float = 0.0,
        re_attention: float | None = None,
        qk_norm: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if dim % num_heads and None in (key_dim, value_dim):
            raise ValueError(f"dim {dim} is not divisible by num_heads {num_heads}")
        self.num_heads = num_heads
        self.key_dim = key_dim or dim // num_heads
        self.value_dim = value_dim or dim // num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, num_heads * (2 * self.key_dim + self.value_dim), bias=bias)
        self.norm = QueryKeyNorm(num_heads, self.key_dim) if qk_norm else None
        self.position_bias = PositionBias(num_heads, window_size) if window_size else positions
        self.mixing = None if re_attention is None else HeadMixing(num_heads, re_attention)
        self.proj = nn.Linear(num_heads * self.value_dim, dim, bias=bias)
        self.memory: nn.Module | None = None  # constant keys and values: `deployment.join_tasks` puts them here

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.project(x)
        return self.attend(q if self.num_queries is None else q[:, :, : self.num_queries], k, v, mask)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The queries, keys and values of tokens. Shapes: [B, N, dim] -> [B, heads, N, key_dim or value_dim] each."""
        batch, tokens, _ = x.shape
        keys, values = self.num_heads * self.key_dim, self.num_heads * self.value_dim
        parts = self.qkv(x).split((keys, keys, values), 2)
        q, k, v = (part.view(batch, tokens, self.num_heads, -1).transpose(1, 2) for part in parts)
        if self.norm is not None:
            q, k = self.norm(q, k)
        return q, k, v

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        return self.key_dim**-0.5 if self.norm is None else 1.0

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """What N queries take from M keys. Shapes: [B, heads, N or M, key_dim or value_dim] -> [B, N, dim]."""
        if self.mixing is not None:
            maps = (q @ k.transpose(2, 3) * self.scale).softmax(-1)
            x = self.mixing(F.dropout(maps, self.dropout, self.training)) @ v
        else:
            bias = self.position_bias() if self.position_bias is not None else None  # [heads, N, N]
            dropout = self.dropout if self.training else 0.0
            x = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias if mask is None else mask, dropout_p=dropout, scale=self.scale
            )
        return self.proj(x.transpose(1, 2).reshape(len(q), -1, self.num_heads * self.value_dim))
