"""Tokens of images of any size, for images of one size: a convolution of patches, and positions as one constant.

A linear of patches that do not overlap is a convolution whose kernel and stride are the patch: W p + b at each. For one
grid, whatever is learned of positions, interpolated or computed gives one vector for each patch: the table of a ViT.
"""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import PatchTokens, RaggedTokens, RelativePositions


def place_tokens(network: nn.Module, image_size: tuple[int, int]) -> None:
    """Replace every RaggedTokens by the PatchTokens that it is for images of that size, in pixels, in place.

    Relative positions beside PatchTokens are those between the patches of such images from then on.
    """
    replace_layers(network, RaggedTokens, lambda tokens: placed(tokens, image_size))
    patches = [layer.patch_size for layer in network.modules() if isinstance(layer, PatchTokens)]
    for layer in network.modules():
        if isinstance(layer, RelativePositions):
            layer.grid = image_size[0] // patches[0], image_size[1] // patches[0]


@torch.no_grad()
def placed(tokens: RaggedTokens, image_size: tuple[int, int]) -> PatchTokens:
    """What `tokens` is for images of that size."""
    patch, weight = tokens.patch_size, tokens.proj.weight
    grid = (image_size[0] // patch, image_size[1] // patch)
    count, dim = tokens.num_registers, len(weight)
    fixed = PatchTokens(tokens.in_channels, dim, patch, grid, prefix=count, prefix_positions=False).to(weight)
    fixed.conv.weight.copy_(
        weight.view(dim, patch, patch, -1).permute(0, 3, 1, 2)
    )  # [dim, (y, x, c)] -> [dim, c, y, x]
    assert fixed.conv.bias is not None
    fixed.conv.bias.zero_() if tokens.proj.bias is None else fixed.conv.bias.copy_(tokens.proj.bias)
    if tokens.registers is not None:
        fixed.prefix.copy_(tokens.registers.transpose(0, 1))
    fixed.positions.copy_(tokens.positions.on(grid, weight))
    return fixed.requires_grad_(False)
