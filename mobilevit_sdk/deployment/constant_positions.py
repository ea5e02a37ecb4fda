"""Attention whose positions and queries are constants: one addition of a constant for each projection.

At a fixed image size, positions p and object queries are constants, and

    W_q (x + p) / sqrt(d) + b_q / sqrt(d)  ==  W_q' x + (W_q' p + b_q'),    W_k (x + p) + b_k  ->  W_k x + W_k p,

where the bias b_k goes: it adds the same number q . b_k to all scores of a query, which softmax does not see. The
bias of the values goes into the last linear, as the weights of a query sum to 1: W_o (sum a (v + b_v)) + b_o ==
W_o (sum a v) + (W_o b_v + b_o). Objects begin as zeros, so the first decoder layer's attention between objects, and the
norm behind it, see constants alone and are one; so are its queries to the image. These stand on the right of their
product, k q^T instead of q k^T, because GPUs refuse a constant on the left in LiteRT.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.linears import linear
from mobilevit_sdk.deployment.products import batch_axes, batched_product
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.deployment.targets import Target
from mobilevit_sdk.layers import CrossAttention, DecoderLayer, EncoderLayer, SetTransformer, sine_positions

Grid = tuple[int, int]


class PlacedAttention(nn.Module):
    """The inference form of a `CrossAttention` whose queries and keys have constant positions.

    Shapes: [1, N, dim], [1, M, dim] -> [1, N, dim], with positions [1, N, dim] and [1, M, dim]. With `asking`, the
    queries themselves are the constant, [1, N, dim]: [1, M, dim] -> [1, N, dim].
    """

    query_constant: Tensor
    key_constant: Tensor

    def __init__(
        self, attention: CrossAttention, queries: Tensor, keys: Tensor, product_rank: int, *, asking: bool = False
    ) -> None:
        super().__init__()
        self.num_heads, self.product_rank = attention.num_heads, product_rank
        self.key_dim, self.value_dim = attention.key_dim, attention.value_dim
        rows = attention.rows[0]
        q = linear(attention.qkv, slice(0, rows), scale=self.key_dim**-0.5)
        self.k = linear(attention.qkv, slice(rows, 2 * rows), bias=False)
        self.v = linear(attention.qkv, slice(2 * rows, None), bias=False)
        self.proj = _with_bias_of_values(attention)
        constant = _product(q, queries) + q.bias.detach().double()
        if asking:  # [1, N, dim] -> [1, heads, d, N], the right of a product
            constant = constant.view(1, -1, self.num_heads, self.key_dim).permute(0, 2, 3, 1)
            constant = constant if product_rank == 4 else constant[0]
        self.q = None if asking else linear(q, bias=False)
        self.register_buffer("query_constant", constant.to(q.weight.dtype).contiguous())
        self.register_buffer("key_constant", _product(self.k, keys).to(q.weight.dtype))

    def forward(self, asking: Tensor | None, tokens: Tensor) -> Tensor:
        count = tokens.shape[1]
        axes = batch_axes(1, self.num_heads, self.product_rank)
        k = (self.k(tokens) + self.key_constant).view(1, count, self.num_heads, self.key_dim)
        v = self.v(tokens).view(1, count, self.num_heads, self.value_dim)
        v = v.permute(0, 2, 1, 3).reshape(*axes, count, self.value_dim)
        if self.q is None or asking is None:
            k = k.permute(0, 2, 1, 3).reshape(*axes, count, self.key_dim)
            scores = batched_product(k, self.query_constant).transpose(-1, -2)  # [heads, M, N] -> [heads, N, M]
        else:
            k = k.permute(0, 2, 3, 1).reshape(*axes, self.key_dim, count)
            q = (self.q(asking) + self.query_constant).view(1, -1, self.num_heads, self.key_dim)
            scores = batched_product(q.permute(0, 2, 1, 3).reshape(*axes, -1, self.key_dim), k)
        queries = scores.shape[-2]
        x = batched_product(scores.softmax(-1), v).view(1, self.num_heads, queries, self.value_dim)
        out: Tensor = self.proj(x.permute(0, 2, 1, 3).reshape(1, queries, self.num_heads * self.value_dim))
        return out


class PlacedEncoderLayer(nn.Module):
    """The inference form of `EncoderLayer`. Shapes: [1, N, dim] -> [1, N, dim], with positions [1, N, dim]."""

    def __init__(self, layer: EncoderLayer, positions: Tensor, product_rank: int) -> None:
        super().__init__()
        self.attention = PlacedAttention(layer.attention, positions, positions, product_rank)
        self.norm1, self.mlp, self.norm2 = layer.norm1, layer.mlp, layer.norm2

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, x))
        out: Tensor = self.norm2(x + self.mlp(x))
        return out


class PlacedDecoderLayer(nn.Module):
    """The inference form of `DecoderLayer`; of the first with the `start` that its attention between objects gives.

    Shapes: [1, Q, dim], which the first does not read, and [1, N, dim] -> [1, Q, dim].
    """

    start: Tensor | None

    def __init__(
        self, layer: DecoderLayer, queries: Tensor, positions: Tensor, product_rank: int, *, first: bool
    ) -> None:
        super().__init__()
        start = _start(layer, queries) if first else None
        asking = queries if start is None else queries + start.double()
        self.attention = None if first else PlacedAttention(layer.attention, queries, queries, product_rank)
        self.norm1 = None if first else layer.norm1
        self.register_buffer("start", start)
        self.cross_attention = PlacedAttention(layer.cross_attention, asking, positions, product_rank, asking=first)
        self.norm2, self.mlp, self.norm3 = layer.norm2, layer.mlp, layer.norm3

    def forward(self, objects: Tensor | None, tokens: Tensor) -> Tensor:
        if self.attention is not None and self.norm1 is not None and objects is not None:
            x = self.norm1(objects + self.attention(objects, objects))
            x = self.norm2(x + self.cross_attention(x, tokens))
        else:
            x = self.norm2(self.cross_attention(None, tokens) + self.start)
        out: Tensor = self.norm3(x + self.mlp(x))
        return out


class PlacedSetTransformer(nn.Module):
    """The inference form of `SetTransformer` on a map of one size. Shapes: [1, dim, h, w] -> [1, num_queries, dim]."""

    def __init__(self, transformer: SetTransformer, grid: Grid, product_rank: int) -> None:
        super().__init__()
        queries = transformer.queries.weight.detach()[None].double()
        positions = sine_positions(*grid, queries.shape[2])
        encoder = cast("Iterable[EncoderLayer]", transformer.encoder)
        decoder = cast("Iterable[DecoderLayer]", transformer.decoder)
        self.encoder = nn.Sequential(*(PlacedEncoderLayer(layer, positions, product_rank) for layer in encoder))
        self.decoder = nn.Sequential(
            *(
                PlacedDecoderLayer(layer, queries, positions, product_rank, first=not i)
                for i, layer in enumerate(decoder)
            )
        )
        self.norm = transformer.norm

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.encoder(x.permute(0, 2, 3, 1).reshape(1, -1, x.shape[1]))
        objects: Tensor | None = None
        for layer in self.decoder:
            objects = layer(objects, tokens)
        out: Tensor = self.norm(objects)
        return out


def place_positions(network: nn.Module, image_size: tuple[int, int], target: Target) -> None:
    """Replace every SetTransformer by its form for images of that size, in pixels, in place.

    The network says in `map_size` how large its map of features then is.
    """
    if not any(isinstance(layer, SetTransformer) for layer in network.modules()):
        return
    grid: Grid = network.map_size(*image_size)  # type: ignore[operator]
    replace_layers(network, SetTransformer, lambda each: PlacedSetTransformer(each, grid, target.product_rank))


@torch.no_grad()
def _start(layer: DecoderLayer, queries: Tensor) -> Tensor:
    """The objects, [1, Q, dim], after the first layer's attention between them and its norm, with float64 inside."""
    dtype = layer.norm1.weight.dtype
    attention, norm = layer.attention.double(), layer.norm1.double()
    start: Tensor = norm(attention(queries, queries, torch.zeros_like(queries)))
    layer.to(dtype)
    return start.to(dtype)


@torch.no_grad()
def _with_bias_of_values(attention: CrossAttention) -> nn.Linear:
    proj = linear(attention.proj)
    values = attention.qkv.bias[2 * attention.rows[0] :].double()
    proj.bias.copy_(attention.proj.weight.double() @ values + attention.proj.bias.double())
    return proj


@torch.no_grad()
def _product(layer: nn.Linear, tokens: Tensor) -> Tensor:
    """W x in float64."""
    return tokens.double() @ layer.weight.double().T
