"""Channel groups of ViT and DeiT."""

from __future__ import annotations

from collections.abc import Iterator

from mobilevit_sdk.channel_groups.blocks import block_groups, stream_slices
from mobilevit_sdk.channel_groups.dispatch import network_blocks, network_groups
from mobilevit_sdk.channel_groups.groups import (
    ChannelGroup,
    ChannelSlice,
    RemovableBlock,
    located,
    numbered,
    reads,
    writes,
)
from mobilevit_sdk.layers import PatchTokens, TokenClassifier
from mobilevit_sdk.models.vit import ViT


@network_groups.register
def _vit_groups(network: ViT) -> Iterator[ChannelGroup]:
    stream = stream_slices(network.tokens)
    for i, block in numbered(network.blocks).items():
        yield from located(block_groups(block), f"block {i}", "widths", "blocks", i)
        stream += stream_slices(block)
    stream += writes(network.norm)
    if network.pre_logits is None:
        stream += stream_slices(network.head)
    else:
        linear = network.pre_logits.linear
        stream += reads(linear)
        units = (*writes(linear), *stream_slices(network.head))
        yield ChannelGroup((("representation_dim",),), "pre-logits", linear.out_features, (units,), stage="head")
    yield ChannelGroup((("dim",),), "stream", network.config.dim, (stream,), minimum=2, stage="stream")


@network_blocks.register
def _vit_blocks(network: ViT) -> Iterator[RemovableBlock]:
    """All but the first, without which the class token could see no patch."""
    for i, block in numbered(network.blocks).items():
        if i:
            yield RemovableBlock(("widths", "blocks", i), None, block, f"block {i}")


@stream_slices.register
def _patch_tokens_stream(tokens: PatchTokens) -> tuple[ChannelSlice, ...]:
    constants = (ChannelSlice(tokens, name, 2, degree=1) for name in ("prefix", "positions"))
    return (*writes(tokens.conv), *constants)


@stream_slices.register
def _token_classifier_stream(classifier: TokenClassifier) -> tuple[ChannelSlice, ...]:
    heads = (classifier.linear, classifier.linear_dist)
    return tuple(each for head in heads if head is not None for each in reads(head))
