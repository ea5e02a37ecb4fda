"""LayerNorms of a residual stream whose tokens all have the mean 0.

With P = I - 1/C, the projection that takes a token's mean away, layer_norm(x) == layer_norm(P x). P is linear, so the
stream P(sum of what its writers write) is the sum of writers whose rows P was applied to: W' = P W, b' = P b. On such a
stream layer_norm(x) == x / sqrt(mean(x * x) + eps), the root mean square normalisation.
"""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.deployment.matmul_layer_norm import RootMeanSquareNorm
from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import DeclaresResidualStream
from mobilevit_sdk.layers.declarations import Projection


def centre_residual_streams(network: nn.Module) -> None:
    """Centre every stream that a block declares and drop the means of its LayerNorms, in place.

    The norms must have neither gain nor bias left.
    """
    centred: set[nn.Module] = set()
    for block in network.modules():
        if isinstance(block, DeclaresResidualStream):
            stream = block.residual_stream()
            for writer in stream.writers:
                centre(writer)
            centred.update(stream.norms)
    replace_layers(network, nn.LayerNorm, lambda norm: RootMeanSquareNorm(norm) if norm in centred else norm)


@torch.no_grad()
def centre(writer: Projection) -> None:
    """Take from each result of `writer`, in place, the mean over its channels."""
    weight = writer.weight.double()
    writer.weight.copy_(weight - weight.mean(0, keepdim=True))
    if writer.bias is not None:
        bias = writer.bias.double()
        writer.bias.copy_(bias - bias.mean())
