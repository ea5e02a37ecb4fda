"""Attention written out as two batched matrix products and a softmax, with q, k and v from linears of their own.

softmax(q k^T / sqrt(d) + bias) v  ==  softmax(q' k^T + bias) v, with q' = (W_q / sqrt(d)) x + b_q / sqrt(d): q, k and v
are rows of one linear, and the scale commutes with the linear that makes q; where queries and keys have a norm, its
gains are the scale (`unit_queries`). Heads are an axis beside the batch, or
folded into it where the backend wants products of rank 3, so nothing exceeds rank 4 and no operator is a fused
attention, an expand or a multiplication by a scalar, which delegates refuse. A bias is taken from its table once, here,
and added to all windows from one constant. A token alone attends to itself: the softmax of one score is 1, and the
answer is v.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.join_tasks import MemoryRows
from mobilevit_sdk.deployment.linears import linear
from mobilevit_sdk.deployment.products import batch_axes, batched_product
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.deployment.unit_queries import UnitQueries
from mobilevit_sdk.layers import Attention


class ExplicitAttention(nn.Module):
    """The inference form of `Attention`, with products of `product_rank` 3 or 4.

    Shapes: [B, N, dim] -> [B, num_queries or N, dim].
    """

    bias: Tensor | None
    visible: Tensor | None

    def __init__(self, attention: Attention, product_rank: int, *, means: bool = False) -> None:
        super().__init__()
        self.product_rank = product_rank
        self.num_heads = attention.num_heads
        self.num_queries = attention.num_queries
        self.key_dim = attention.key_dim
        self.value_dim = attention.value_dim
        keys = attention.num_heads * attention.key_dim
        self.q = linear(attention.qkv, slice(0, keys), scale=attention.scale)
        self.k = linear(attention.qkv, slice(keys, 2 * keys))
        self.v = linear(attention.qkv, slice(2 * keys, None))
        self.norm = None if attention.norm is None else UnitQueries(attention.norm, mean=means)
        position_bias = attention.position_bias
        bias = None if position_bias is None else position_bias().detach()[None]  # [1, heads, N, N]
        if bias is not None and self.num_queries is not None:
            bias = bias[:, :, : self.num_queries].contiguous()
        self.register_buffer("bias", bias)
        self.mixing = attention.mixing
        self.memory = None if attention.memory is None else _memory_for(attention, product_rank)
        self.register_buffer("visible", self.memory.visible() if self.memory and self.mixing else None)
        self.proj = attention.proj

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        queries = tokens if self.num_queries is None else self.num_queries
        if tokens == 1 and self.mixing is None:
            alone: Tensor = self.proj(self.v(x))
            return alone
        axes = batch_axes(batch, self.num_heads, self.product_rank)
        asking = x if queries == tokens else x[:, :queries]
        q, k = self.q(asking), self.k(x)
        if self.norm is not None:
            q, k = self.norm(q, k)
        q = q.view(batch, queries, self.num_heads, self.key_dim)
        k = k.view(batch, tokens, self.num_heads, self.key_dim)
        v = self.v(x).view(batch, tokens, self.num_heads, self.value_dim)
        q = q.permute(0, 2, 1, 3).reshape(*axes, queries, self.key_dim)  # [B, N, heads, d] -> [B, heads, N, d]
        k = k.permute(0, 2, 3, 1).reshape(*axes, self.key_dim, tokens)  # [B, N, heads, d] -> [B, heads, d, N]
        v = v.permute(0, 2, 1, 3).reshape(*axes, tokens, self.value_dim)
        x = self._attend(q, k, v, self.bias) if self.memory is None else self._attend_with_tasks(q, k, v, self.memory)
        x = x.view(batch, self.num_heads, queries, self.value_dim).permute(0, 2, 1, 3)
        out: Tensor = self.proj(x.reshape(batch, queries, self.num_heads * self.value_dim))
        return out

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, visible: Tensor | None = None) -> Tensor:
        """Shapes: [..., heads, Q, d], [..., heads, d, K], [..., heads, K, e] -> [..., heads, Q, e]."""
        scores = batched_product(q, k)
        shape, by_head = scores.shape, (-1, self.num_heads, *scores.shape[-2:])
        if bias is not None:
            scores = (scores.view(by_head) + bias).view(shape)
        maps = scores.softmax(-1)
        if self.mixing is not None:  # re-attention, over the axis of heads
            mixed: Tensor = self.mixing(maps.view(by_head))
            maps = (mixed if visible is None else mixed * visible).view(shape)
        return batched_product(maps, v)

    def _attend_with_tasks(self, q: Tensor, k: Tensor, v: Tensor, memory: MemoryRows) -> Tensor:
        """The rows of tasks see all rows and memory, the others each other; see `deployment.join_tasks`."""
        count = memory.tasks
        own = self._attend(q[..., count:, :], k[..., count:], v[..., count:, :], None)
        if memory.keys is not None and memory.values is not None:
            k, v = torch.cat([k, memory.keys], -1), torch.cat([v, memory.values], -2)
        return torch.cat([self._attend(q[..., :count, :], k, v, memory.mask, self.visible), own], -2)


def _memory_for(attention: Attention, product_rank: int) -> MemoryRows:
    """Keys [..., heads, d, M] and values [..., heads, M, e] in the products' rank, and the mask for every head."""
    memory = attention.memory
    assert isinstance(memory, MemoryRows)
    keys, values, mask = memory.keys, memory.values, memory.mask
    if keys is not None and values is not None:
        keys = keys.transpose(2, 3)
        keys, values = (keys[0], values[0]) if product_rank == 3 else (keys, values)
    if mask is not None:
        mask = mask.expand(1, attention.num_heads, -1, -1)
    return MemoryRows(memory.tasks, keys, values, mask)


def split_attention(network: nn.Module, product_rank: int, *, means: bool = False) -> None:
    """Replace every Attention by its explicit form with products of `product_rank` 3 or 4, in place.

    `means`: whether the backend takes a mean over the last axis, where queries and keys have a norm.
    """
    replace_layers(network, Attention, lambda attention: ExplicitAttention(attention, product_rank, means=means))
