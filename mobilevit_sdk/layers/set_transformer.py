"""A transformer from a map of features to a fixed number of objects (DETR, arXiv 2005.12872, section A.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from mobilevit_sdk.layers.cross_attention import CrossAttention
from mobilevit_sdk.layers.mlp import MLP

_EPS = 1e-6
_TEMPERATURE = 10000


class EncoderLayer(nn.Module):
    """Self-attention with positions added to queries and keys, then an MLP; a norm after each sum (post-norm).

    Shapes: tokens [B, N, dim] and positions [1, N, dim] -> [B, N, dim].
    """

    def __init__(self, attention: CrossAttention, mlp_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        dim = attention.qkv.in_features
        self.attention = attention
        self.norm1 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_dim, activation=nn.ReLU, dropout=dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        placed = x + positions
        x = self.norm1(x + self.dropout(self.attention(placed, placed, x)))
        out: Tensor = self.norm2(x + self.mlp(x))
        return out


class DecoderLayer(nn.Module):
    """Self-attention between objects, attention to the image, an MLP; a norm after each sum.

    Shapes: objects [B, Q, dim], their queries [1, Q, dim], tokens [B, N, dim], positions [1, N, dim] -> [B, Q, dim].
    """

    def __init__(
        self, attention: CrossAttention, cross_attention: CrossAttention, mlp_dim: int, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        dim = attention.qkv.in_features
        self.attention = attention
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attention = cross_attention
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_dim, activation=nn.ReLU, dropout=dropout)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, queries: Tensor, tokens: Tensor, positions: Tensor) -> Tensor:
        asking = x + queries
        x = self.norm1(x + self.dropout(self.attention(asking, asking, x)))
        x = self.norm2(x + self.dropout(self.cross_attention(x + queries, tokens + positions, tokens)))
        out: Tensor = self.norm3(x + self.mlp(x))
        return out


class ObjectQueries(nn.Module):
    """One learned query for each object that may be found: `weight` is [count, dim]."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, dim))
        nn.init.normal_(self.weight)

    def no_decay(self) -> tuple[nn.Parameter, ...]:
        """Positions of objects, not a matrix."""
        return (self.weight,)


class SetTransformer(nn.Module):
    """A map of features to objects. Shapes: [B, dim, h, w] -> [B, num_queries, dim], normalized.

    `encoder` holds layers of type EncoderLayer, and `decoder` at least one of type DecoderLayer.
    """

    def __init__(self, dim: int, num_queries: int, encoder: nn.Sequential, decoder: nn.Sequential) -> None:
        super().__init__()
        self.encoder = encoder
        self.queries = ObjectQueries(num_queries, dim)
        self.decoder = decoder
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.by_layer(x)[-1]

    def by_layer(self, x: Tensor) -> list[Tensor]:
        """The objects as each decoder layer has them, [B, num_queries, dim] each, all by the one norm."""
        positions = sine_positions(x.shape[2], x.shape[3], x.shape[1]).to(x)
        tokens = x.flatten(2).transpose(1, 2)  # [B, dim, h, w] -> [B, h w, dim]
        for layer in cast("Iterable[EncoderLayer]", self.encoder):
            tokens = layer(tokens, positions)
        queries = self.queries.weight[None]
        objects, found = torch.zeros_like(queries).expand(x.shape[0], -1, -1), []
        for decoder in cast("Iterable[DecoderLayer]", self.decoder):
            objects = decoder(objects, queries, tokens, positions)
            found.append(self.norm(objects))
        return found


def sine_positions(height: int, width: int, dim: int) -> Tensor:
    """Positions on a map, the first half of the channels for rows, the other for columns: float64 [1, h w, dim].

    Rows count from 1, and the last is at 2 pi, so that images of all sizes have one scale. Of each pair of channels,
    one is the sine and one the cosine of a frequency (DETR's code; arXiv 1706.03762, section 3.5).
    """
    half = dim // 2
    frequencies = _TEMPERATURE ** -(torch.arange(half, dtype=torch.float64) // 2 * 2 / half)

    def along(count: int) -> Tensor:
        places = torch.arange(1, count + 1, dtype=torch.float64) * (2 * math.pi / (count + _EPS))
        angles = places[:, None] * frequencies
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], 2).flatten(1)  # [count, half]

    rows = along(height)[:, None].expand(-1, width, -1)
    columns = along(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], 2).reshape(1, height * width, dim)
