"""LayerScale within the linear that ends its branch: g * (W x + b)  ==  (diag(g) W) x + g b, and so is a constant.

The products are taken in float64 and rounded once.
"""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.layers import LayerScale, TransformerBlock


def fold_layer_scales(network: nn.Module) -> None:
    """Give the factors of every TransformerBlock to the linears before them, in place."""
    for block in network.modules():
        if isinstance(block, TransformerBlock):
            for name, linear in (("layer_scale1", block.attention.proj), ("layer_scale2", block.mlp.fc2)):
                scale = getattr(block, name)
                if isinstance(scale, LayerScale):
                    fold_scale(scale, linear)
                    setattr(block, name, nn.Identity())
                for parameter in linear.parameters():
                    parameter.data.mul_(block.branch_scale)
            block.branch_scale = 1.0


@torch.no_grad()
def fold_scale(scale: LayerScale, linear: nn.Linear) -> None:
    """Give the factors to `linear`, in place."""
    factors = scale.weight.double()
    linear.weight.copy_(linear.weight.double() * factors[:, None])
    if linear.bias is not None:
        linear.bias.copy_(linear.bias.double() * factors)
