"""MobileViT's transformer on channels-first tokens [1, C, P, N]: the P places within a patch, the N patches.

Pixels (i, j) of patches (a, b) stand at [C, a p + i, b p + j] of the map. pixel_unshuffle by p moves them to
[C p p, a, b], its channels being (C, i, j) in that order: that is [1, C, P, N] without another move. pixel_shuffle is
its inverse.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Size, Tensor, nn

from mobilevit_sdk.deployment.channels_first.attention import ChannelsFirstAttention
from mobilevit_sdk.deployment.channels_first.norm import ChannelsFirstNorm
from mobilevit_sdk.deployment.channels_first.pointwise import PointwiseMLP
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import Fold, TransformerBlock, Unfold


class ChannelsFirstUnfold(nn.Module):
    """`Unfold` for one image. Shapes: [1, C, H, W] -> [1, C, P, N]."""

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, x: Tensor) -> Tensor:
        p = self.patch_size
        return F.pixel_unshuffle(x, p).reshape(1, x.shape[1], p * p, -1)


class ChannelsFirstFold(nn.Module):
    """`Fold` for one image. Shapes: [1, C, P, N] -> `size` = (1, C, H, W)."""

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        _, channels, height, width = size
        p = self.patch_size
        return F.pixel_shuffle(tokens.reshape(1, channels * p * p, height // p, width // p), p)


class ChannelsFirstBlock(nn.Module):
    """The inference form of `TransformerBlock`. Shapes: [1, C, P, N] -> [1, C, P, N]."""

    def __init__(self, block: TransformerBlock) -> None:
        super().__init__()
        self.norm1 = ChannelsFirstNorm(block.norm1)
        self.attention = ChannelsFirstAttention(block.attention)
        self.norm2 = ChannelsFirstNorm(block.norm2)
        self.mlp = PointwiseMLP(block.mlp)

    def forward(self, x: Tensor) -> Tensor:
        attended = self.attention(self.norm1(x))
        x = (x if self.attention.num_queries is None else x[..., : self.attention.num_queries]) + attended
        return x + self.mlp(self.norm2(x))


def patches_channels_first(network: nn.Module) -> None:
    """Replace TransformerBlocks and LayerNorms between an Unfold and a Fold, together with these two, in place.

    All four have the same parent: what stands beside an Unfold and a Fold works on their tokens, TransformerBlocks
    perhaps in a Sequential. Elsewhere tokens have another layout, and these kinds stay.
    """
    for block in list(network.modules()):
        if {Unfold, Fold} <= {type(child) for child in block.children()}:
            for name, child in list(block.named_children()):
                if type(child) is nn.Sequential:
                    replace_layers(child, TransformerBlock, ChannelsFirstBlock)
                elif type(child) in _FORMS:
                    setattr(block, name, _FORMS[type(child)](child))


_FORMS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    Unfold: lambda unfold: ChannelsFirstUnfold(unfold.patch_size),
    Fold: lambda fold: ChannelsFirstFold(fold.patch_size),
    TransformerBlock: ChannelsFirstBlock,
    nn.LayerNorm: ChannelsFirstNorm,
}
