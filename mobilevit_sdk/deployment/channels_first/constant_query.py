"""Pooling by attention of a constant query, over channels-first tokens; see `deployment.constant_query`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.channels_first.attention import product
from mobilevit_sdk.deployment.channels_first.pointwise import convolution
from mobilevit_sdk.deployment.constant_query import scores
from mobilevit_sdk.layers import AttentionPool


class ChannelsFirstQueryPool(nn.Module):
    """The form of `AttentionPool` on maps. Shapes: [1, dim, 1, N] -> [1, dim]."""

    def __init__(self, pool: AttentionPool) -> None:
        super().__init__()
        self.value_dim = pool.value_dim
        self.scores = convolution(scores(pool), bias=False)
        self.v = convolution(pool.kv, slice(pool.num_heads * pool.key_dim, None))
        self.proj = convolution(pool.proj)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.scores(x).softmax(-1).permute(0, 3, 2, 1)  # [1, heads, 1, N] -> [1, N, 1, heads]
        heads = zip(torch.split(self.v(x), self.value_dim, 1), torch.split(maps, 1, 3), strict=True)
        pooled: Tensor = self.proj(torch.cat([product(v, weights) for v, weights in heads], 1))
        return pooled.flatten(1)
