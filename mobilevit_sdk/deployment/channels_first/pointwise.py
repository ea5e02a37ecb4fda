"""A linear of tokens as a 1x1 convolution of a map.

Both are W x + b at each token, [N, C] -> [N, D] and [1, C, P, N] -> [1, D, P, N]: the same products in another layout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.layers import MLP


@torch.no_grad()
def convolution(layer: nn.Linear | nn.Conv2d, rows: slice = slice(None), *, scale: float = 1.0) -> nn.Conv2d:
    """The given outputs of a linear, or of a 1x1 convolution, times `scale`, as a 1x1 convolution.

    The product is taken in float64 and rounded once.
    """
    weight = layer.weight[rows].flatten(1)
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=layer.bias is not None, dtype=weight.dtype)
    conv.weight.copy_((weight.double() * scale)[:, :, None, None])
    if layer.bias is not None and conv.bias is not None:
        conv.bias.copy_(layer.bias[rows].double() * scale)
    return conv


class PointwiseMLP(nn.Module):
    """The inference form of `MLP`. Shapes: [1, C, H, W] -> [1, C, H, W]."""

    def __init__(self, mlp: MLP) -> None:
        super().__init__()
        self.fc1 = convolution(mlp.fc1)
        self.activation = mlp.activation
        self.fc2 = convolution(mlp.fc2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.activation(self.fc1(x)))
        return out
