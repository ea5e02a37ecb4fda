"""The separable transformer of one image on tokens [P, N, C], which are the rows of matrix products.

A 1x1 convolution is a linear of each token, and a GroupNorm with one group is a norm over everything. What delegates
refuse (a split, a sum over the last axis, an expand) is gone, and so is a third of the attention's arithmetic:

- q, k and v are linears of their own. A constant added to all scores changes no softmax, so q needs no bias.
- The scores s of a place add up to 1, so the context, sum_n s_n (W_k x_n + b_k), is W_k (sum_n s_n x_n) + b_k: k is
  taken of one weighted token for each place instead of all N.

Patches are taken once for the whole transformer: each layer works on tokens one by one or on all alike.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.deployment.linears import linear
from mobilevit_sdk.deployment.rank4_patches import Rank4Fold, Rank4Unfold
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.deployment.whole_norm import WholeNorm
from mobilevit_sdk.layers import Fold, SeparableAttention, SeparableTransformer, Unfold
from mobilevit_sdk.layers.separable_attention import SeparableTransformerBlock


class TokenAttention(nn.Module):
    """`SeparableAttention` of one image. Shapes: [P, N, C] -> [P, N, C]."""

    def __init__(self, attention: SeparableAttention) -> None:
        super().__init__()
        dim = attention.dim
        self.q = linear(attention.qkv, slice(0, 1), bias=False)
        self.k = linear(attention.qkv, slice(1, 1 + dim))
        self.v = linear(attention.qkv, slice(1 + dim, None))
        self.proj = linear(attention.proj)

    def forward(self, x: Tensor) -> Tensor:
        places, patches, _ = x.shape
        weighted = x  # one token alone has the weight 1
        if patches > 1:
            scores = self.q(x).view(places, 1, patches).softmax(-1)
            weighted = torch.bmm(scores, x)
        context = self.k(weighted)  # [P, 1, C]
        out: Tensor = self.proj(F.relu(self.v(x)) * context)
        return out


class TokenBlock(nn.Module):
    """`SeparableTransformerBlock` of one image. Shapes: [P, N, C] -> [P, N, C]."""

    def __init__(self, block: SeparableTransformerBlock) -> None:
        super().__init__()
        self.norm1 = WholeNorm(block.norm1)
        self.attention = TokenAttention(block.attention)
        self.norm2 = WholeNorm(block.norm2)
        self.fc1 = linear(block.mlp.fc1)
        self.activation = block.mlp.activation
        self.fc2 = linear(block.mlp.fc2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(self.activation(self.fc1(self.norm2(x))))


class TokenTransformer(nn.Module):
    """`SeparableTransformer` of one image. Shapes: [1, C, H, W] -> [1, C, H, W]."""

    def __init__(self, transformer: SeparableTransformer) -> None:
        super().__init__()
        self.unfold = Rank4Unfold(Unfold(transformer.patch_size))
        self.blocks = nn.Sequential(*(TokenBlock(cast("SeparableTransformerBlock", b)) for b in transformer.blocks))
        self.norm = WholeNorm(transformer.norm)
        self.fold = Rank4Fold(Fold(transformer.patch_size))

    def forward(self, x: Tensor) -> Tensor:
        return self.fold(self.norm(self.blocks(self.unfold(x))), x.shape)


def separable_transformers_on_tokens(network: nn.Module) -> None:
    """Replace every SeparableTransformer by its form on the tokens of one image, in place.

    Its norms must have neither gain nor bias left.
    """
    replace_layers(network, SeparableTransformer, TokenTransformer)
