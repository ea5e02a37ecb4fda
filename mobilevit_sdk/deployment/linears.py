"""Some outputs of a linear, or of a 1x1 convolution, as a linear: both are W x + b at each token."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def linear(
    layer: nn.Linear | nn.Conv2d, rows: slice = slice(None), *, scale: float = 1.0, bias: bool = True
) -> nn.Linear:
    """The given outputs of `layer` times `scale`; without bias where `bias` is False or the layer has none.

    The product is taken in float64 and rounded once.
    """
    weight = layer.weight[rows].flatten(1)  # [rows, C, 1, 1] of a convolution -> [rows, C]
    bias = bias and layer.bias is not None
    part = nn.Linear(weight.shape[1], weight.shape[0], bias=bias, dtype=weight.dtype)
    part.weight.copy_(weight.double() * scale)
    if bias and layer.bias is not None:
        part.bias.copy_(layer.bias[rows].double() * scale)
    return part
