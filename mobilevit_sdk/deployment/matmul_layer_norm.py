"""LayerNorm for backends without the operator: its two means as products with a row of 1 / C.

With r = (1/C, ..., 1/C): mean(x) == x r^T, and the variance is mean(d * d) of the deviations d = x - mean(x), so
layer_norm(x) == d / sqrt((d * d) r^T + eps) * gamma + beta. Gain and bias may have gone to the next layer.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.deployment.replace import replace_layers


class RootMeanSquareNorm(nn.Module):
    """LayerNorm of tokens whose mean is 0. Shapes: [..., C] -> [..., C]."""

    row: Tensor
    eps: Tensor

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        (channels,) = norm.normalized_shape
        self.weight, self.bias = norm.weight, norm.bias
        self.register_buffer("row", torch.full((1, channels), 1 / channels, dtype=torch.float64))
        # The bias of the product that takes the variance: an addition of a scalar would stay outside the delegate.
        self.register_buffer("eps", torch.full((1,), norm.eps, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(F.linear(x * x, self.row, self.eps))
        x = x if self.weight is None else x * self.weight
        return x if self.bias is None else x + self.bias


class MatmulLayerNorm(RootMeanSquareNorm):
    """The inference form of LayerNorm over the last axis. Shapes: [..., C] -> [..., C]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - F.linear(x, self.row))


def layer_norms_as_matmuls(network: nn.Module, centered: Collection[nn.Module]) -> None:
    """Replace every LayerNorm by its matmul form, in place; those among `centered` read tokens whose mean is 0."""
    replace_layers(
        network, nn.LayerNorm, lambda norm: RootMeanSquareNorm(norm) if norm in centered else MatmulLayerNorm(norm)
    )
