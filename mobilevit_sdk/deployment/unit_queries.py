"""Queries and keys of unit length, written with operators that delegates take.

x / sqrt(sum(x * x) + eps) * g  ==  x / sqrt(mean(x * x) + eps / d) * (g / sqrt(d)): the mean of squares stays finite in
float16 where their sum does not. It is a product with a row of 1 / d, or a mean over the last axis for the backend that
has it; of channels-first tokens, a convolution with one group for each head. As scores are products of both,
sum g_q q g_k k  ==  sum (g_q g_k q) k: the queries take both gains.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.layers import QueryKeyNorm


class UnitQueries(nn.Module):
    """The inference form of `QueryKeyNorm` on rows. Shapes: [B, N, heads * key_dim], twice -> the same."""

    gain: Tensor
    row: Tensor
    eps: Tensor

    def __init__(self, norm: QueryKeyNorm, *, mean: bool) -> None:
        super().__init__()
        self.key_dim, self.mean = norm.key_dim, mean
        self.register_buffer("gain", gain(norm))
        self.register_buffer("row", self.gain.new_full((1, self.key_dim), 1 / self.key_dim))
        self.register_buffer("eps", self.gain.new_full((1,), norm.eps / self.key_dim))

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return self._over_length(q, q * self.gain), self._over_length(k, k)

    def _over_length(self, x: Tensor, gained: Tensor) -> Tensor:
        rows = x.reshape(len(x), -1, self.key_dim)  # [B, N heads, key_dim]
        squares = rows * rows
        powers = squares.mean(-1, keepdim=True) + self.eps if self.mean else F.linear(squares, self.row, self.eps)
        return (gained.reshape(rows.shape) * torch.rsqrt(powers)).reshape(x.shape)


class ChannelsFirstUnitQueries(nn.Module):
    """The inference form of `QueryKeyNorm` on maps. Shapes: [1, heads * key_dim, P, N], twice -> the same."""

    gain: Tensor
    rows: Tensor
    eps: Tensor

    def __init__(self, norm: QueryKeyNorm) -> None:
        super().__init__()
        self.heads, key_dim = norm.num_heads, norm.key_dim
        channels = self.heads * key_dim
        self.register_buffer("gain", gain(norm).view(-1, 1, 1))
        self.register_buffer("rows", self.gain.new_full((channels, key_dim, 1, 1), 1 / key_dim))
        self.register_buffer("eps", self.gain.new_full((channels,), norm.eps / key_dim))

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return q * self.gain * self._inverse(q), k * self._inverse(k)

    def _inverse(self, x: Tensor) -> Tensor:
        return torch.rsqrt(F.conv2d(x * x, self.rows, self.eps, groups=self.heads))


@torch.no_grad()
def gain(norm: QueryKeyNorm) -> Tensor:
    """Of the queries, for both, where lengths are root mean squares: [heads * key_dim]."""
    both = norm.q_weight.double() * norm.k_weight.double() / norm.key_dim
    return both.to(norm.q_weight.dtype)
