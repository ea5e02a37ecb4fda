"""LayerNorms of a residual stream whose tokens all have the mean 0.

With P = I - 1/C, the projection that takes a token's mean away, layer_norm(x) == layer_norm(P x). P is linear, so the
stream P(sum of what its writers write) is the sum of writers whose rows P was applied to: W' = P W, b' = P b. On such a
stream layer_norm(x) == x / sqrt(mean(x * x) + eps), the root mean square normalisation.
"""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.layers.declarations import Projection, residual_streams


def centre_residual_streams(network: nn.Module) -> set[nn.Module]:
    """Centre, in place, every declared stream that nothing but LayerNorms read; the norms, which need no mean any more.

    The norms must have neither gain nor bias left.
    """
    centred: set[nn.Module] = set()
    for stream in residual_streams(network):
        of_tokens = all(isinstance(norm, nn.LayerNorm) for norm in stream.norms)
        if of_tokens and not stream.readers and not stream.within:
            for writer in stream.writers:
                centre(writer)
            centred.update(stream.norms)
    return centred


@torch.no_grad()
def centre(writer: Projection) -> None:
    """Take from each result of `writer`, in place, the mean over its channels."""
    weight = writer.weight.double()
    writer.weight.copy_(weight - weight.mean(0, keepdim=True))
    if writer.bias is not None:
        bias = writer.bias.double()
        writer.bias.copy_(bias - bias.mean())
