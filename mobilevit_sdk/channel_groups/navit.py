"""Channel groups of NaViT.

With sinusoidal positions, the channels of its tokens stay: these are no weights, and have one value for each channel.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from mobilevit_sdk.channel_groups.blocks import block_groups, stream_slices
from mobilevit_sdk.channel_groups.dispatch import block_products, network_blocks, network_groups, products
from mobilevit_sdk.channel_groups.groups import (
    ChannelGroup,
    ChannelSlice,
    RemovableBlock,
    group,
    located,
    numbered,
    reads,
    writes,
)
from mobilevit_sdk.layers import AttentionPool, RaggedTokens
from mobilevit_sdk.models.navit import NaViT


@network_groups.register
def _navit_groups(network: NaViT) -> Iterator[ChannelGroup]:
    stream = stream_slices(network.tokens)
    for i, block in numbered(network.blocks).items():
        yield from located(block_groups(block), f"block {i}", "widths", "blocks", i)
        stream += stream_slices(block)
    if isinstance(network.pooling, AttentionPool):
        yield from located(block_groups(network.pooling), "pool", "widths", "pool")
        stream += (*reads(network.pooling.kv), *writes(network.pooling.proj))
    for norm in (network.norm, network.fc_norm):
        stream += writes(norm) if isinstance(norm, nn.LayerNorm) else ()
    assert isinstance(network.head, nn.Linear)
    stream += reads(network.head)
    if network.config.positions != "sinusoidal":
        yield ChannelGroup((("dim",),), "stream", network.config.dim, (stream,), minimum=2, stage="stream")


@network_blocks.register
def _navit_blocks(network: NaViT) -> Iterator[RemovableBlock]:
    """All but the first."""
    for i, block in numbered(network.blocks).items():
        if i:
            yield RemovableBlock(("widths", "blocks", i), None, block, f"block {i}")


@stream_slices.register
def _ragged_tokens_stream(tokens: RaggedTokens) -> tuple[ChannelSlice, ...]:
    """The channels are the last axis of registers and tables, and what projections write."""
    found = writes(tokens.proj)
    for owner in (tokens, tokens.positions):
        tables = owner.named_parameters(recurse=False)
        found += tuple(ChannelSlice(owner, name, table.ndim - 1, degree=1) for name, table in tables)
    for layer in tokens.positions.children():
        assert isinstance(layer, nn.Linear)
        found += writes(layer)
    return found


@block_groups.register
def _attention_pool(pool: AttentionPool) -> Iterator[ChannelGroup]:
    heads, key_dim, value_dim = pool.num_heads, pool.key_dim, pool.value_dim
    first_value = heads * key_dim  # row of kv
    head = (
        ChannelSlice(pool, "query", 0, rows=key_dim),
        *writes(pool.kv, 0, key_dim),
        *writes(pool.kv, first_value, value_dim),
        *reads(pool.proj, 0, value_dim),
        *(ChannelSlice(pool, product, 0) for product in products(pool)),
    )
    yield group("heads", heads, head, name="num_heads", rows=key_dim)
    queries = [ChannelSlice(pool, "query", 0, h * key_dim, effect=True) for h in range(heads)]
    keys = [(query, *writes(pool.kv, h * key_dim)) for h, query in enumerate(queries)]
    keys[0] += (ChannelSlice(pool, "scores", 1),)
    yield group("q/k", key_dim, *keys, name="key_dim", rows=heads, rescaled=queries)
    values = [(*writes(pool.kv, first_value + h * value_dim), *reads(pool.proj, h * value_dim)) for h in range(heads)]
    values[0] += (ChannelSlice(pool, "answers", 1),)
    yield group("v", value_dim, *values, name="value_dim", rows=heads)


@block_products.register
def _attention_pool_products(pool: AttentionPool) -> dict[str, tuple[int, ...]]:
    return {"scores": (pool.num_heads, pool.key_dim), "answers": (pool.num_heads, pool.value_dim)}
