"""A residual connection around a depthwise convolution, as one depthwise convolution.

x + dw(x)  ==  dw'(x), whose kernels have 1 more at their center: a convolution of x with the unit impulse is x.
"""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import ConvNormAct, Residual
from mobilevit_sdk.layers.conv import is_depthwise


def fold_residual_depthwise(network: nn.Module) -> None:
    """Replace every Residual around a single depthwise convolution, in place; norms must be folded before."""
    replace_layers(network, Residual, _folded)


@torch.no_grad()
def _folded(residual: Residual) -> nn.Module:
    branch = residual.branch
    if not (isinstance(branch, ConvNormAct) and _is_identity(branch.norm) and _is_identity(branch.activation)):
        return residual
    conv = branch.conv
    height, width = conv.weight.shape[2:]
    keeps_size = conv.stride == (1, 1) and conv.padding == (height // 2, width // 2) and height % 2 == width % 2 == 1
    if not (keeps_size and is_depthwise(conv)):
        return residual
    conv.weight[:, 0, height // 2, width // 2] += 1
    return conv


def _is_identity(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Identity)
