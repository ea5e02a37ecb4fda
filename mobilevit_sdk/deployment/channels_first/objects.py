"""A detector's tokens and objects in the layout [1, C, 1, N]: attention with constant positions, layers and heads.

A linear is a 1x1 convolution, and what `constant_positions` adds to a projection is a constant map; see `attention` for
the products. Objects leave the layout behind their heads alone: [1, classes, 1, Q] -> [1, Q, classes].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.channels_first.attention import attend
from mobilevit_sdk.deployment.channels_first.norm import ChannelsFirstNorm
from mobilevit_sdk.deployment.channels_first.pointwise import PointwiseMLP, convolution
from mobilevit_sdk.deployment.constant_positions import (
    PlacedAttention,
    PlacedDecoderLayer,
    PlacedEncoderLayer,
    PlacedSetTransformer,
)


class ChannelsFirstPlacedAttention(nn.Module):
    """The form of `PlacedAttention` here. Shapes: [1, C, 1, N], [1, C, 1, M] -> [1, C, 1, N]."""

    query_constant: Tensor
    key_constant: Tensor

    def __init__(self, attention: PlacedAttention) -> None:
        super().__init__()
        self.key_dim, self.value_dim = attention.key_dim, attention.value_dim
        self.q = None if attention.q is None else convolution(attention.q)
        self.k, self.v, self.proj = (convolution(each) for each in (attention.k, attention.v, attention.proj))
        queries = attention.query_constant
        if attention.q is None:  # heads, and channels of each, before the queries already
            queries = queries.reshape(1, -1, 1, queries.shape[-1])
        else:
            queries = _as_map(queries)
        self.register_buffer("query_constant", queries.contiguous())
        self.register_buffer("key_constant", _as_map(attention.key_constant))

    def forward(self, asking: Tensor | None, tokens: Tensor) -> Tensor:
        q = self.query_constant
        if self.q is not None and asking is not None:
            q = self.q(asking) + q
        k = (self.k(tokens) + self.key_constant).permute(0, 3, 2, 1)  # [1, C, 1, M] -> [1, M, 1, C]
        parts = torch.split(q, self.key_dim, 1), torch.split(k, self.key_dim, 3)
        heads = zip(*parts, torch.split(self.v(tokens), self.value_dim, 1), strict=True)
        out: Tensor = self.proj(torch.cat([attend(*head, None) for head in heads], 1))
        return out


class ChannelsFirstEncoderLayer(nn.Module):
    """The form of `PlacedEncoderLayer` here. Shapes: [1, C, 1, N] -> [1, C, 1, N]."""

    def __init__(self, layer: PlacedEncoderLayer) -> None:
        super().__init__()
        self.attention = ChannelsFirstPlacedAttention(layer.attention)
        self.norm1, self.norm2 = ChannelsFirstNorm(layer.norm1), ChannelsFirstNorm(layer.norm2)
        self.mlp = PointwiseMLP(layer.mlp)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, x))
        out: Tensor = self.norm2(x + self.mlp(x))
        return out


class ChannelsFirstDecoderLayer(nn.Module):
    """The form of `PlacedDecoderLayer` here. Shapes: [1, C, 1, Q], which the first does not read, and [1, C, 1, N]."""

    start: Tensor | None

    def __init__(self, layer: PlacedDecoderLayer) -> None:
        super().__init__()
        self.attention = None if layer.attention is None else ChannelsFirstPlacedAttention(layer.attention)
        self.norm1 = None if layer.norm1 is None else ChannelsFirstNorm(layer.norm1)
        self.register_buffer("start", None if layer.start is None else _as_map(layer.start))
        self.cross_attention = ChannelsFirstPlacedAttention(layer.cross_attention)
        self.norm2, self.norm3 = ChannelsFirstNorm(layer.norm2), ChannelsFirstNorm(layer.norm3)
        self.mlp = PointwiseMLP(layer.mlp)

    def forward(self, objects: Tensor | None, tokens: Tensor) -> Tensor:
        if self.attention is not None and self.norm1 is not None and objects is not None:
            x = self.norm1(objects + self.attention(objects, objects))
            x = self.norm2(x + self.cross_attention(x, tokens))
        else:
            x = self.norm2(self.cross_attention(None, tokens) + self.start)
        out: Tensor = self.norm3(x + self.mlp(x))
        return out


class ChannelsFirstSetTransformer(nn.Module):
    """The form of `PlacedSetTransformer` here. Shapes: [1, C, h, w] -> [1, C, 1, num_queries]."""

    def __init__(self, transformer: PlacedSetTransformer) -> None:
        super().__init__()
        encoder = cast("Iterable[PlacedEncoderLayer]", transformer.encoder)
        decoder = cast("Iterable[PlacedDecoderLayer]", transformer.decoder)
        self.encoder = nn.Sequential(*(ChannelsFirstEncoderLayer(layer) for layer in encoder))
        self.decoder = nn.Sequential(*(ChannelsFirstDecoderLayer(layer) for layer in decoder))
        self.norm = ChannelsFirstNorm(transformer.norm)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.encoder(x.reshape(1, x.shape[1], 1, -1))
        objects: Tensor | None = None
        for layer in self.decoder:
            objects = layer(objects, tokens)
        out: Tensor = self.norm(objects)
        return out


class ObjectHead(nn.Sequential):
    """Linears of objects, and what stands between them. Shapes: [1, C, 1, Q] -> [1, Q, D]."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__(*(convolution(each) if isinstance(each, nn.Linear) else each for each in layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x.reshape(1, x.shape[1], x.shape[3]).permute(0, 2, 1)


def objects_channels_first(network: nn.Module) -> None:
    """Replace every PlacedSetTransformer, and the heads beside it, in place."""
    for parent in list(network.modules()):
        if not any(isinstance(child, PlacedSetTransformer) for child in parent.children()):
            continue
        for name, child in list(parent.named_children()):
            if isinstance(child, PlacedSetTransformer):
                setattr(parent, name, ChannelsFirstSetTransformer(child))
            elif isinstance(child, nn.Linear):
                setattr(parent, name, ObjectHead([child]))
            elif type(child) is nn.Sequential and isinstance(child[0], nn.Linear):
                setattr(parent, name, ObjectHead(child))


def _as_map(rows: Tensor) -> Tensor:
    """[1, N, C] -> [1, C, 1, N]."""
    return rows.transpose(1, 2)[:, :, None].contiguous()
