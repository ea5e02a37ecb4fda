"""Tokens that begin with constants, as a pad and one addition.

cat(prefix, W * image + b) + positions  ==  pad(W * image) + c, where the pad puts rows of zeros before the patches, the
first rows of c are prefix + positions, and the others positions + b. Backends take a pad and a sum of two tensors;
what expands the prefix to the batch would stay outside of their delegates. The positions are those of the image's own
grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import PatchTokens


class PaddedTokens(nn.Module):
    """The inference form of `PatchTokens`. Shapes: [1, in_channels, H, W] -> [1, N, dim], or [1, dim, 1, N]."""

    constant: Tensor

    def __init__(self, tokens: PatchTokens, image_size: tuple[int, int], *, channels_first: bool) -> None:
        super().__init__()
        self.prefix = len(tokens.prefix)
        self.channels_first = channels_first
        constant = token_constant(tokens, image_size)
        self.register_buffer("constant", constant.transpose(1, 2)[:, :, None] if channels_first else constant)
        self.stem = tokens.stem
        self.conv = tokens.conv
        self.conv.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x if self.stem is None else self.stem(x))
        if self.channels_first:
            x = x.reshape(1, x.shape[1], 1, -1)
        else:
            x = x.permute(0, 2, 3, 1).reshape(1, -1, x.shape[1])
        if self.prefix:
            x = F.pad(x, (self.prefix, 0) if self.channels_first else (0, 0, self.prefix, 0))
        return x + self.constant


@torch.no_grad()
def token_constant(tokens: PatchTokens, image_size: tuple[int, int]) -> Tensor:
    """What is added to the convolution without bias, and to zeros before it: [1, N, dim]."""
    patch = tokens.patch_size
    positions = tokens.positions_at((image_size[0] // patch, image_size[1] // patch)).detach().double()
    prefix, count = tokens.prefix.transpose(0, 1).double(), len(tokens.prefix)
    if tokens.prefix_positions:
        prefix, positions = prefix + positions[:, :count], positions[:, count:]
    if tokens.conv.bias is not None:
        positions = positions + tokens.conv.bias.double()
    return torch.cat([prefix, positions], 1).to(tokens.positions.dtype)


def pad_tokens(network: nn.Module, image_size: tuple[int, int], *, channels_first: bool) -> None:
    """Replace every PatchTokens by its padded form for images of that size, in pixels, in place."""
    replace_layers(network, PatchTokens, lambda tokens: PaddedTokens(tokens, image_size, channels_first=channels_first))
