"""The channel groups of the shared layers, and their slices of the residual stream that runs through them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import singledispatch
from typing import cast

from torch import Tensor, nn

from mobilevit_sdk.channel_groups.dispatch import block_products, product_weights, products
from mobilevit_sdk.channel_groups.groups import ChannelGroup, ChannelSlice, gates, group, of_unit, reads, writes
from mobilevit_sdk.layers import (
    MLP,
    Attention,
    BatchNormClassifier,
    CascadedGroupAttention,
    ConvNormAct,
    CrossAttention,
    InvertedResidual,
    LayerScale,
    Residual,
    SeparableAttention,
    SqueezeExcite,
    TransformerBlock,
)
from mobilevit_sdk.layers.sandwich import FFN, PatchMerging, Sandwich
from mobilevit_sdk.layers.separable_attention import PointwiseMLP, SeparableTransformerBlock
from mobilevit_sdk.layers.window_transformer import WindowTransformerBlock

_OF_KEYS = ("queries", "keys", "scores")  # products of attention as large as queries and keys, others as values


@singledispatch
def block_groups(block: nn.Module) -> Iterator[ChannelGroup]:
    """The groups within a block, the channels of its input and output apart; paths are from the block's own config."""
    raise TypeError(f"no channel groups are registered for a block of type {type(block).__name__}")


@singledispatch
def stream_slices(block: nn.Module) -> tuple[ChannelSlice, ...]:
    """Where a block reads the channels of the residual stream and writes to them."""
    raise TypeError(f"no slices of a stream are registered for a block of type {type(block).__name__}")


@block_groups.register(Attention)
@block_groups.register(CrossAttention)
def _attention(attention: Attention | CrossAttention) -> Iterator[ChannelGroup]:
    heads, key_dim, value_dim = attention.num_heads, attention.key_dim, attention.value_dim
    qkv, proj = attention.qkv, attention.proj
    first_value = 2 * heads * key_dim  # row of qkv
    head = (
        *writes(qkv, 0, key_dim),
        *writes(qkv, heads * key_dim, key_dim),
        *writes(qkv, first_value, value_dim),
        *reads(proj, 0, value_dim),
        *(ChannelSlice(attention, product, 0) for product in products(attention)),
    )
    if isinstance(attention, Attention) and attention.position_bias is not None:
        head += (ChannelSlice(attention.position_bias, "table", 0),)
    if isinstance(attention, Attention) and attention.norm is not None:
        head += tuple(ChannelSlice(attention.norm, name, 0, rows=key_dim) for name in ("q_weight", "k_weight"))
    if isinstance(attention, Attention) and attention.mixing is not None:
        head += (*writes(attention.mixing.conv), *reads(attention.mixing.conv), *writes(attention.mixing.norm))
    yield group("heads", heads, head, name="num_heads", rows=key_dim)
    # From here on one part a head: the slices of its dimension i.
    norm = attention.norm if isinstance(attention, Attention) else None
    queries = [writes(qkv, h * key_dim, effect=norm is None) for h in range(heads)]
    keys = [(*queries[h], *writes(qkv, (heads + h) * key_dim)) for h in range(heads)]
    if norm is not None:  # of unit length, whatever they are made of; a gain stands for what both add to a score
        for h in range(heads):
            gain = ChannelSlice(norm, "q_weight", 0, h * key_dim, effect=True)
            keys[h] += (gain, ChannelSlice(norm, "k_weight", 0, h * key_dim))
    keys[0] += tuple(ChannelSlice(attention, product, 1) for product in products(attention) if product in _OF_KEYS)
    rescaled = [each for query in queries for each in query] if norm is None else []
    yield group("q/k", key_dim, *keys, name="key_dim", rows=heads, rescaled=rescaled)
    values = [(*writes(qkv, first_value + h * value_dim), *reads(proj, h * value_dim)) for h in range(heads)]
    values[0] += tuple(
        ChannelSlice(attention, product, 1) for product in products(attention) if product not in _OF_KEYS
    )
    yield group("v", value_dim, *values, name="value_dim", rows=heads)


@block_products.register
def _attention_products(attention: Attention) -> dict[str, tuple[int, ...]]:
    heads = attention.num_heads
    return {"scores": (heads, attention.key_dim), "answers": (heads, attention.value_dim)}


@block_products.register
def _cross_attention_products(attention: CrossAttention) -> dict[str, tuple[int, ...]]:
    """With those of the rows of `qkv`: each third of it is multiplied by other tokens."""
    keys, values = (attention.num_heads, attention.key_dim), (attention.num_heads, attention.value_dim)
    return {"queries": keys, "keys": keys, "scores": keys, "values": values, "answers": values}


@product_weights.register
def _cross_attention_weights(attention: CrossAttention, inputs: tuple[Tensor, ...]) -> dict[str, float]:
    queries, keys, _ = (tokens.shape[1] for tokens in inputs)
    dim, pairs = attention.qkv.in_features, queries * keys
    return {"queries": dim * queries, "keys": dim * keys, "scores": pairs, "values": dim * keys, "answers": pairs}


@block_groups.register
def _mlp(mlp: MLP) -> Iterator[ChannelGroup]:
    yield group("FFN", mlp.fc1.out_features, (*writes(mlp.fc1), *reads(mlp.fc2)), name="mlp_dim")


@block_groups.register
def _pointwise_mlp(mlp: PointwiseMLP) -> Iterator[ChannelGroup]:
    yield group("FFN", mlp.fc1.out_channels, (*writes(mlp.fc1), *reads(mlp.fc2)), name="mlp_dim")


@block_groups.register
def _separable_attention(attention: SeparableAttention) -> Iterator[ChannelGroup]:
    dim, qkv = attention.value_dim, attention.qkv
    values = (*writes(qkv, 1), *writes(qkv, 1 + dim), *reads(attention.proj))  # row 0 is the query
    yield group("v", dim, values, name="value_dim")


@block_groups.register(TransformerBlock)
@block_groups.register(SeparableTransformerBlock)
@block_groups.register(WindowTransformerBlock)
def _transformer_block(
    block: TransformerBlock | SeparableTransformerBlock | WindowTransformerBlock,
) -> Iterator[ChannelGroup]:
    yield from block_groups(block.attention)
    yield from block_groups(block.mlp)


@stream_slices.register
def _transformer_stream(block: TransformerBlock) -> tuple[ChannelSlice, ...]:
    attention = (*writes(block.norm1), *reads(block.attention.qkv), *writes(block.attention.proj))
    scales = [scale for scale in (block.layer_scale1, block.layer_scale2) if isinstance(scale, LayerScale)]
    mlp = (*writes(block.norm2), *reads(block.mlp.fc1), *writes(block.mlp.fc2))
    return (*attention, *mlp, *(ChannelSlice(scale, "weight", 0) for scale in scales))


@stream_slices.register
def _separable_transformer_stream(block: SeparableTransformerBlock) -> tuple[ChannelSlice, ...]:
    attention = (*writes(block.norm1), *reads(block.attention.qkv), *writes(block.attention.proj))
    return (*attention, *writes(block.norm2), *reads(block.mlp.fc1), *writes(block.mlp.fc2))


@stream_slices.register
def _window_transformer_stream(block: WindowTransformerBlock) -> tuple[ChannelSlice, ...]:
    attention = (*writes(block.norm1), *reads(block.attention.qkv), *writes(block.attention.proj))
    mlp = (*writes(block.norm2), *reads(block.mlp.fc1), *writes(block.mlp.fc2))
    return (*attention, *writes(block.local_conv), *mlp)


@block_groups.register
def _inverted_residual(block: InvertedResidual) -> Iterator[ChannelGroup]:
    hidden = (*writes(block.expand), *writes(block.depthwise), *reads(block.project))
    yield group("expansion", block.expand.conv.out_channels, hidden)


@block_groups.register
def _squeeze_excite(gate: SqueezeExcite) -> Iterator[ChannelGroup]:
    yield group("squeeze", gate.fc1.out_channels, (*writes(gate.fc1), *reads(gate.fc2)), name="squeezed")


@block_groups.register
def _patch_merging(merging: PatchMerging) -> Iterator[ChannelGroup]:
    gate = merging.squeeze_excite
    hidden = (*writes(merging.expand), *writes(merging.depthwise), *reads(gate.fc1), *gates(gate.fc2))
    hidden += reads(merging.project)
    yield group("expansion", merging.expand.conv.out_channels, hidden, name="hidden", scale_equivariant=True)
    yield from block_groups(gate)


@block_groups.register
def _sandwich(block: Sandwich) -> Iterator[ChannelGroup]:
    yield _ffn_group(block.ffn0, "ffn0")
    yield from block_groups(block.mixer.branch if isinstance(block.mixer, Residual) else block.mixer)
    yield _ffn_group(block.ffn1, "ffn1")


def _ffn_group(residual: Residual, name: str) -> ChannelGroup:
    ffn = cast("FFN", residual.branch)
    hidden = (*writes(ffn.expand), *reads(ffn.project))
    return group("FFN", ffn.expand.conv.out_channels, hidden, name=name, scale_equivariant=True)


def stream_before_mixer(block: Sandwich) -> tuple[ChannelSlice, ...]:
    """Where the layers before a sandwich's mixer read the residual stream and write to it."""
    return _depthwise_and_ffn(block.dw0, block.ffn0)


def stream_after_mixer(block: Sandwich) -> tuple[ChannelSlice, ...]:
    """Where the layers after a sandwich's mixer read the residual stream and write to it."""
    return _depthwise_and_ffn(block.dw1, block.ffn1)


def _depthwise_and_ffn(depthwise: Residual, residual: Residual) -> tuple[ChannelSlice, ...]:
    ffn = cast("FFN", residual.branch)
    return (*writes(cast("ConvNormAct", depthwise.branch)), *reads(ffn.expand), *writes(ffn.project))


@block_groups.register
def _cascaded_group_attention(attention: CascadedGroupAttention) -> Iterator[ChannelGroup]:
    key_dim, value_dim = attention.key_dim, attention.value_dim
    heads = [(_head(attention.qkv, i), _head(attention.token_interaction, i)) for i in attention.positions]
    interactions = [writes(interaction, effect=True) for _, interaction in heads]
    keys = [
        (*writes(qkv), *writes(qkv, key_dim), *interaction)
        for (qkv, _), interaction in zip(heads, interactions, strict=True)
    ]
    keys[0] += (ChannelSlice(attention, "scores", 1),)
    # The scale of attention goes into the gain and bias of the norm that the queries pass last.
    rescaled = [
        each for _, interaction in heads for each in writes(interaction.norm) if each.tensor in ("weight", "bias")
    ]
    yield group("q/k", key_dim, *keys, rescaled=rescaled, name="key_dim")
    head = (
        *reads(attention.proj, 0, value_dim),
        ChannelSlice(attention.position_bias, "table", 0),
        ChannelSlice(attention, "scores", 0),
        ChannelSlice(attention, "answers", 0),
        *(each for unit, layers in enumerate(heads) for layer in layers for each in of_unit(unit, layer)),
    )
    all_heads = group("heads", len(heads), head, name="heads", rows=value_dim)
    yield dataclasses.replace(all_heads, names=attention.positions)


@block_products.register
def _cascaded_group_products(attention: CascadedGroupAttention) -> dict[str, tuple[int, ...]]:
    heads = len(attention.positions)
    return {"scores": (heads, attention.key_dim), "answers": (heads, attention.value_dim)}


def cascade_stream(attention: CascadedGroupAttention) -> list[tuple[ChannelSlice, ...]]:
    """Where each head's group of channels of the residual stream is read and written; then outputs that no head reads.

    Channel i of a head's group is added to dimension i of the output of the head before, so they belong together.
    """
    size, after_keys = attention.value_dim, 2 * attention.key_dim
    parts: list[tuple[ChannelSlice, ...]] = [
        writes(attention.proj, number * size) for number in range(attention.num_groups)
    ]
    for index, position in enumerate(attention.positions):
        qkv = _head(attention.qkv, position)
        parts[position] += reads(qkv)
        output = (*writes(qkv, after_keys), *reads(attention.proj, index * size))
        if position + 1 in attention.positions:
            parts[position + 1] += output
        else:
            parts.append(output)
    parts[0] += (ChannelSlice(attention, "answers", 1),)
    return parts


def _head(layers: nn.ModuleDict, position: int) -> ConvNormAct:
    """The layer of the head at `position` of its cascade."""
    return cast("ConvNormAct", layers[str(position)])


@stream_slices.register
def _batch_norm_classifier(classifier: BatchNormClassifier) -> tuple[ChannelSlice, ...]:
    found = (*writes(classifier.norm), *reads(classifier.linear))
    if classifier.norm_dist is not None and classifier.linear_dist is not None:
        found += (*writes(classifier.norm_dist), *reads(classifier.linear_dist))
    return found
