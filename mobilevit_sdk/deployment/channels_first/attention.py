"""Attention on channels-first tokens, head by head.

With a head's q and v as [1, d, P, N] and its k as [1, N, P, d], the scores of keys k with queries q are the sums
sum_d k[k, d] q[d, q] for each of P, [1, N_k, P, N_q]; softmax over k, and sum_k v[d, k] scores[k, q] is [1, d, P, N]
again: softmax(q k^T / sqrt(d) + bias) v, transposed throughout. A head is a slice of the channels; only k changes axes.
The scale is in the convolution that makes q. A token alone attends to itself: its answer is v.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.channels_first.pointwise import convolution
from mobilevit_sdk.layers import Attention


class ChannelsFirstAttention(nn.Module):
    """The inference form of `Attention`. Shapes: [1, dim, P, N] -> [1, dim, P, num_queries or N], across N."""

    bias: Tensor | None

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        keys = attention.num_heads * attention.key_dim
        self.num_heads = attention.num_heads
        self.num_queries = attention.num_queries
        self.key_dim = attention.key_dim
        self.value_dim = attention.value_dim
        self.q = convolution(attention.qkv, slice(0, keys), scale=attention.key_dim**-0.5)
        self.k = convolution(attention.qkv, slice(keys, 2 * keys))
        self.v = convolution(attention.qkv, slice(2 * keys, None))
        self.mixing = attention.mixing
        self.proj = convolution(attention.proj)
        position_bias = attention.position_bias
        self.register_buffer("bias", None if position_bias is None else transposed_bias(position_bias()))

    def forward(self, x: Tensor) -> Tensor:
        v: Tensor = self.v(x)
        if x.shape[3] > 1 or self.mixing is not None:
            k = self.k(x).permute(0, 3, 2, 1)  # [1, dim, P, N] -> [1, N, P, dim]
            heads = zip(
                torch.split(self.q(x if self.num_queries is None else x[..., : self.num_queries]), self.key_dim, 1),
                torch.split(k, self.key_dim, 3),
                torch.split(v, self.value_dim, 1),
                self._biases(),
                strict=True,
            )
            v = torch.cat([attend(*head) for head in heads] if self.mixing is None else self._mixed(heads), 1)
        out: Tensor = self.proj(v)
        return out

    def _mixed(self, heads: Iterable[tuple[Tensor, Tensor, Tensor, Tensor | None]]) -> list[Tensor]:
        """Re-attention: the maps of all heads through a convolution, [1, heads, N of keys, N of queries]."""
        assert self.mixing is not None
        q, k, v, _ = zip(*heads, strict=True)
        maps = torch.cat([product(*pair).softmax(1) for pair in zip(k, q, strict=True)], 2)  # [1, N_k, heads, N_q]
        mixed = self.mixing(maps.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
        return [product(value, own) for value, own in zip(v, torch.split(mixed, 1, 2), strict=True)]

    def _biases(self) -> Sequence[Tensor | None]:
        """Those of each head, [1, N, 1, N], keys first."""
        return [None] * self.num_heads if self.bias is None else torch.split(self.bias, self.bias.shape[3], 1)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """One head: q [1, d, P, N], k [1, N, P, d], v [1, e, P, N], bias [1, N, 1, N], keys first -> [1, e, P, N]."""
    scores = product(k, q)
    if bias is not None:
        scores = scores + bias
    return product(v, scores.softmax(1))


def product(x: Tensor, y: Tensor) -> Tensor:
    """[1, C, P, W] times [1, W, P, U] is [1, C, P, U]: the one form of MIL's `einsum`."""
    return torch.einsum("bcpw,bwpu->bcpu", x, y)


def transposed_bias(bias: Tensor) -> Tensor:
    """[heads, N of queries, N of keys] -> [1, heads * N of keys, 1, N of queries]."""
    heads, tokens, _ = bias.shape
    return bias.detach().transpose(1, 2).reshape(1, heads * tokens, 1, tokens)
