"""Pooling by attention of a query that is a constant: scores are one linear of the tokens, without keys.

q (W_k x + b_k) / sqrt(d)  ==  (W_k^T q / sqrt(d)) x + q b_k / sqrt(d), and softmax does not see what is added to all
scores of a query. So a head's scores need one row of weights instead of d, and no product with a constant, which GPUs
refuse where it stands on the left.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.linears import linear
from mobilevit_sdk.deployment.products import batch_axes, batched_product
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import AttentionPool


class ConstantQueryPool(nn.Module):
    """The inference form of `AttentionPool`, with products of rank 3 or 4. Shapes: [B, N, dim] -> [B, dim]."""

    def __init__(self, pool: AttentionPool, product_rank: int) -> None:
        super().__init__()
        self.product_rank, self.num_heads, self.value_dim = product_rank, pool.num_heads, pool.value_dim
        self.scores = scores(pool)
        self.v = linear(pool.kv, slice(pool.num_heads * pool.key_dim, None))
        self.proj = linear(pool.proj)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        axes = batch_axes(batch, self.num_heads, self.product_rank)
        maps = self.scores(x).permute(0, 2, 1).reshape(*axes, 1, tokens).softmax(-1)
        v = self.v(x).view(batch, tokens, self.num_heads, self.value_dim)
        v = v.permute(0, 2, 1, 3).reshape(*axes, tokens, self.value_dim)
        pooled: Tensor = self.proj(batched_product(maps, v).reshape(batch, self.num_heads * self.value_dim))
        return pooled


@torch.no_grad()
def scores(pool: AttentionPool) -> nn.Linear:
    """What each head's scores are of a token: [..., dim] -> [..., heads]. The product is taken in float64."""
    keys = pool.kv.weight[: pool.num_heads * pool.key_dim].double().view(pool.num_heads, pool.key_dim, -1)
    rows = torch.einsum("hd,hdc->hc", pool.query.double().view(pool.num_heads, -1), keys) * pool.key_dim**-0.5
    layer = nn.Linear(rows.shape[1], len(rows), bias=False, dtype=pool.query.dtype)
    layer.weight.copy_(rows)
    return layer


def pool_by_constant_queries(network: nn.Module, product_rank: int) -> None:
    """Replace every AttentionPool by its form of products of `product_rank` 3 or 4, in place."""
    replace_layers(network, AttentionPool, lambda pool: ConstantQueryPool(pool, product_rank))
