"""Gain and bias of a norm taken over by the projection that reads it.

W (g * x + b) + c  ==  (W diag(g)) x + (W b + c). A projection that reads the channels of several tokens, one after the
other, takes gain and bias once for each. The products are taken in float64 and rounded once.
"""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.layers import HasNormReaders
from mobilevit_sdk.layers.traits import Norm, Projection


def fold_norm_affines(network: nn.Module, *, layer_norms: bool = True) -> None:
    """Leave every norm whose reader its block declares without gain and bias, in place; LayerNorms if asked to.

    Else LayerNorms get what they lack of both, for a backend whose operator has them.
    """
    for block in network.modules():
        if isinstance(block, HasNormReaders):
            for use in block.norm_readers():
                if layer_norms or not isinstance(use.norm, nn.LayerNorm):
                    fold_affine(use.norm, use.reader)
    if not layer_norms:
        for norm in network.modules():
            if isinstance(norm, nn.LayerNorm) and len([*norm.parameters()]) == 1:
                norm.bias = nn.Parameter(torch.zeros_like(norm.weight), requires_grad=False)


@torch.no_grad()
def fold_affine(norm: Norm, reader: Projection) -> None:
    """Give gain and bias of `norm` to `reader`, in place. Raises ValueError for a bias that the reader has none for."""
    if reader.bias is None and norm.bias is not None:
        raise ValueError("a projection without bias cannot take over that of a norm")
    weight = reader.weight.flatten(1).double()  # [out, C, 1, 1] of a convolution -> [out, C]
    tokens = weight.shape[1] // len(norm.weight)
    gain = norm.weight.double().repeat(tokens)
    if norm.bias is not None and reader.bias is not None:
        reader.bias.copy_(reader.bias.double() + weight @ norm.bias.double().repeat(tokens))
    reader.weight.copy_((weight * gain).view_as(reader.weight))
    norm.register_parameter("weight", None)
    norm.register_parameter("bias", None)
