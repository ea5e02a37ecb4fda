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
from mobilevit_sdk.deployment.join_tasks import MemoryRows
from mobilevit_sdk.deployment.unit_queries import ChannelsFirstUnitQueries
from mobilevit_sdk.layers import Attention


class ChannelsFirstAttention(nn.Module):
    """The inference form of `Attention`. Shapes: [1, dim, P, N] -> [1, dim, P, num_queries or N], across N."""

    bias: Tensor | None
    visible: Tensor | None

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        keys = attention.num_heads * attention.key_dim
        self.num_heads = attention.num_heads
        self.num_queries = attention.num_queries
        self.key_dim = attention.key_dim
        self.value_dim = attention.value_dim
        self.q = convolution(attention.qkv, slice(0, keys), scale=attention.scale)
        self.k = convolution(attention.qkv, slice(keys, 2 * keys))
        self.v = convolution(attention.qkv, slice(2 * keys, None))
        self.norm = None if attention.norm is None else ChannelsFirstUnitQueries(attention.norm)
        self.mixing = attention.mixing
        self.memory = None if attention.memory is None else _memory_for(attention)
        self.register_buffer("visible", self.memory.visible() if self.memory and self.mixing else None)
        self.proj = convolution(attention.proj)
        position_bias = attention.position_bias
        bias = None if position_bias is None else position_bias()[:, : self.num_queries]
        self.register_buffer("bias", None if bias is None else transposed_bias(bias))

    def forward(self, x: Tensor) -> Tensor:
        v: Tensor = self.v(x)
        if x.shape[3] > 1 or self.mixing is not None:
            q = self.q(x if self.num_queries is None else x[..., : self.num_queries])
            k = self.k(x)
            if self.norm is not None:
                q, k = self.norm(q, k)
            k = k.permute(0, 3, 2, 1)  # [1, dim, P, N] -> [1, N, P, dim]
            if self.memory is None:
                v = self._attended(q, k, v, self._biases())
            else:
                v = self._attended_with_tasks(q, k, v, self.memory)
        out: Tensor = self.proj(v)
        return out

    def _attended(
        self, q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor | None], visible: Tensor | None = None
    ) -> Tensor:
        parts = torch.split(q, self.key_dim, 1), torch.split(k, self.key_dim, 3), torch.split(v, self.value_dim, 1)
        heads = zip(*parts, biases, strict=True)
        return torch.cat([attend(*head) for head in heads] if self.mixing is None else self._mixed(heads, visible), 1)

    def _attended_with_tasks(self, q: Tensor, k: Tensor, v: Tensor, memory: MemoryRows) -> Tensor:
        """The rows of tasks see all rows and memory, the others each other; see `deployment.join_tasks`."""
        count = memory.tasks
        own = self._attended(q[..., count:], k[:, count:], v[..., count:], [None] * self.num_heads)
        if memory.keys is not None and memory.values is not None:
            k, v = torch.cat([k, memory.keys], 1), torch.cat([v, memory.values], 3)
        masks, visible = [memory.mask] * self.num_heads, self.visible
        return torch.cat([self._attended(q[..., :count], k, v, masks, visible), own], 3)

    def _mixed(
        self, heads: Iterable[tuple[Tensor, Tensor, Tensor, Tensor | None]], visible: Tensor | None
    ) -> list[Tensor]:
        """Re-attention: the maps of all heads through a convolution, [1, heads, N of keys, N of queries]."""
        assert self.mixing is not None
        q, k, v, biases = zip(*heads, strict=True)
        maps = torch.cat([attention_map(*each) for each in zip(q, k, biases, strict=True)], 2)  # [1, N_k, heads, N_q]
        mixed = self.mixing(maps.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
        mixed = mixed if visible is None else mixed * visible
        return [product(value, own) for value, own in zip(v, torch.split(mixed, 1, 2), strict=True)]

    def _biases(self) -> Sequence[Tensor | None]:
        """Those of each head, [1, N, 1, num_queries or N], keys first."""
        if self.bias is None:
            return [None] * self.num_heads
        return torch.split(self.bias, self.bias.shape[1] // self.num_heads, 1)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """One head: q [1, d, P, N], k [1, N, P, d], v [1, e, P, N], bias [1, N, 1, N], keys first -> [1, e, P, N]."""
    return product(v, attention_map(q, k, bias))


def attention_map(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """How much each query takes of each key, [1, N of keys, P, N of queries]; shapes as in `attend`."""
    scores = product(k, q)
    if bias is not None:
        scores = scores + bias
    return scores.softmax(1)


def _memory_for(attention: Attention) -> MemoryRows:
    """Keys [1, M, 1, heads * d], values [1, heads * e, 1, M], and the mask [1, K, 1, tasks]."""
    memory = attention.memory
    assert isinstance(memory, MemoryRows)
    keys, values, mask = memory.keys, memory.values, memory.mask
    if keys is not None and values is not None:
        keys = keys.transpose(1, 2).flatten(2)[:, :, None]
        values = values.transpose(2, 3).flatten(1, 2)[:, :, None]
    if mask is not None:
        mask = mask.T[None, :, None]
    return MemoryRows(memory.tasks, keys, values, mask)


def product(x: Tensor, y: Tensor) -> Tensor:
    """[1, C, P, W] times [1, W, P, U] is [1, C, P, U]: the one form of MIL's `einsum`."""
    return torch.einsum("bcpw,bwpu->bcpu", x, y)


def transposed_bias(bias: Tensor) -> Tensor:
    """[heads, N of queries, N of keys] -> [1, heads * N of keys, 1, N of queries]."""
    heads, queries, keys = bias.shape
    return bias.detach().transpose(1, 2).reshape(1, heads * keys, 1, queries)
