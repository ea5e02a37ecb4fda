"""What pruning may change within a transformer block."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mobilevit_sdk.spec import Strict

Width = Annotated[int, Meta(ge=1, le=1_048_576)]  # 64 times the widest network, as far as ratios can go


class AttentionWidths(Strict, frozen=True):
    """Of an attention: heads, dimensions of each head."""

    num_heads: Width
    key_dim: Width
    value_dim: Width


class BlockWidths(Strict, frozen=True):
    """Of a block with attention: heads, dimensions of each head, channels within the MLP."""

    num_heads: Width
    key_dim: Width
    value_dim: Width
    mlp_dim: Width
