"""Re-attention's BatchNorm and factor within its 1x1 convolution over heads.

f * norm(conv(maps))  ==  conv'(maps), by `fold_batch_norm`, with W' = f W and b' = f b. One convolution on
[1, heads, N, N] is taken whole by every backend; a product of a constant with the maps is not, by LiteRT's GPU.
"""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.deployment.fold_batch_norm import fold_batch_norm
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import HeadMixing


def fold_head_mixings(network: nn.Module) -> None:
    """Replace every HeadMixing by one convolution, in place; the network must be in eval mode."""
    replace_layers(network, HeadMixing, folded)


@torch.no_grad()
def folded(mixing: HeadMixing) -> nn.Conv2d:
    """The convolution that answers as the layer does in eval mode."""
    conv = fold_batch_norm(mixing.conv, mixing.norm)
    assert conv.bias is not None
    conv.weight.mul_(mixing.factor)
    conv.bias.mul_(mixing.factor)
    return conv
