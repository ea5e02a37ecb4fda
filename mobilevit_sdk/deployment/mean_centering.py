"""LayerNorms of a residual stream whose tokens all have the mean 0.

With P = I - 1/C, the projection that takes a token's mean away, layer_norm(x) == layer_norm(P x). P is linear, so the
stream P(sum of what its writers write) is the sum of writers whose rows P was applied to: W' = P W, b' = P b. What is
added to it as a constant, learned tokens and positions, P is applied to as well. On such a stream
layer_norm(x) == x / sqrt(mean(x * x) + eps), the root mean square normalization.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.layers.traits import Projection, residual_streams


def center_residual_streams(network: nn.Module) -> set[nn.Module]:
    """Center, in place, every declared stream that nothing but LayerNorms read; the norms, which need no mean now."""
    centered: set[nn.Module] = set()
    for stream in residual_streams(network):
        of_tokens = all(isinstance(norm, nn.LayerNorm) for norm in stream.norms)
        if of_tokens and not stream.readers and not stream.within:
            for writer in stream.writers:
                center(writer)
            for constant in stream.constants:
                center_constant(constant)
            centered.update(stream.norms)
    return centered


@torch.no_grad()
def center(writer: Projection) -> None:
    """Take from each result of `writer`, in place, the mean over its channels."""
    weight = writer.weight.double()
    writer.weight.copy_(weight - weight.mean(0, keepdim=True))
    if writer.bias is not None:
        bias = writer.bias.double()
        writer.bias.copy_(bias - bias.mean())


@torch.no_grad()
def center_constant(constant: Tensor) -> None:
    """Take from a constant [..., C], in place, the mean over its channels."""
    values = constant.double()
    constant.copy_(values - values.mean(-1, keepdim=True))
