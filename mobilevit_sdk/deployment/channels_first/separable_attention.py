"""The separable transformer on channels-first tokens [1, C, P, N], without what the paper's form computes in vain.

- A constant added to all scores changes no softmax, so q needs no bias.
- The scores s of a place add up to 1, so the context, sum_n s_n (W_k x_n + b_k), is W_k (sum_n s_n x_n) + b_k: k is
  taken of one weighted token for each place instead of all N.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.deployment.channels_first.norm import ChannelsFirstNorm
from mobilevit_sdk.deployment.channels_first.patches import ChannelsFirstFold, ChannelsFirstUnfold
from mobilevit_sdk.deployment.channels_first.pointwise import convolution
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import SeparableAttention, SeparableTransformer
from mobilevit_sdk.layers.separable_attention import SeparableTransformerBlock


class ChannelsFirstSeparableAttention(nn.Module):
    """The inference form of `SeparableAttention`. Shapes: [1, C, P, N] -> [1, C, P, N]."""

    def __init__(self, attention: SeparableAttention) -> None:
        super().__init__()
        dim = attention.value_dim
        self.q = convolution(attention.qkv, slice(0, 1), bias=False)
        self.k = convolution(attention.qkv, slice(1, 1 + dim))
        self.v = convolution(attention.qkv, slice(1 + dim, None))
        self.proj = attention.proj

    def forward(self, x: Tensor) -> Tensor:
        weighted = x  # one token alone has the weight 1
        if x.shape[3] > 1:
            weighted = (x * self.q(x).softmax(-1)).sum(-1, keepdim=True)  # [1, C, P, 1]
        out: Tensor = self.proj(F.relu(self.v(x)) * self.k(weighted))
        return out


class ChannelsFirstSeparableBlock(nn.Module):
    """The inference form of `SeparableTransformerBlock`. Shapes: [1, C, P, N] -> [1, C, P, N]."""

    def __init__(self, block: SeparableTransformerBlock) -> None:
        super().__init__()
        self.norm1 = ChannelsFirstNorm(block.norm1)
        self.attention = ChannelsFirstSeparableAttention(block.attention)
        self.norm2 = ChannelsFirstNorm(block.norm2)
        self.mlp = block.mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ChannelsFirstSeparableTransformer(nn.Module):
    """The inference form of `SeparableTransformer` for one image. Shapes: [1, C, H, W] -> [1, C, H, W]."""

    def __init__(self, transformer: SeparableTransformer) -> None:
        super().__init__()
        self.unfold = ChannelsFirstUnfold(transformer.patch_size)
        blocks = (cast("SeparableTransformerBlock", block) for block in transformer.blocks)
        self.blocks = nn.Sequential(*(ChannelsFirstSeparableBlock(block) for block in blocks))
        self.norm = ChannelsFirstNorm(transformer.norm)
        self.fold = ChannelsFirstFold(transformer.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fold(self.norm(self.blocks(self.unfold(x))), x.shape)
        return out


def separable_attention_channels_first(network: nn.Module) -> None:
    """Replace every SeparableTransformer by its channels-first form, in place."""
    replace_layers(network, SeparableTransformer, ChannelsFirstSeparableTransformer)
