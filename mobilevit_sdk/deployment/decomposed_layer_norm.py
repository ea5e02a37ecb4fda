"""LayerNorm for a file format without the operator, in as few operators as it takes.

layer_norm(x) == d / sqrt(mean(d * d) + eps) * gamma + beta of the deviations d = x - mean(x), which are x itself on a
centered stream. litert-torch 0.10 writes x / sqrt(v + eps) - mean(x) / sqrt(v + eps) with v = mean((x - mean(x))^2),
twelve operators instead of five or seven, and two large numbers whose difference is small where the mean is large.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.replace import replace_layers


class DecomposedLayerNorm(nn.Module):
    """LayerNorm over the last axis; `centered` tokens have the mean 0. Shapes: [..., C] -> [..., C]."""

    def __init__(self, norm: nn.LayerNorm, *, centered: bool) -> None:
        super().__init__()
        if len(norm.normalized_shape) != 1:
            raise ValueError(f"a norm over one axis, not over {len(norm.normalized_shape)}")
        self.centered = centered
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        if not self.centered:
            x = x - x.mean(-1, keepdim=True)
        x = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps)
        if self.weight is not None:
            x = x * self.weight
        return x if self.bias is None else x + self.bias


def decompose_layer_norms(network: nn.Module, centered: Collection[nn.Module]) -> None:
    """Replace every LayerNorm over one axis, in place; those among `centered` read tokens whose mean is 0."""

    def replaced(norm: nn.LayerNorm) -> nn.Module:
        return DecomposedLayerNorm(norm, centered=norm in centered) if len(norm.normalized_shape) == 1 else norm

    replace_layers(network, nn.LayerNorm, replaced)
