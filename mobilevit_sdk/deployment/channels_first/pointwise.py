"""A linear of tokens as a 1x1 convolution of a map.

Both are W x + b at each token, [N, C] -> [N, D] and [1, C, P, N] -> [1, D, P, N]: the same products in another layout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.linears import linear
from mobilevit_sdk.layers import MLP


@torch.no_grad()
def convolution(
    layer: nn.Linear | nn.Conv2d, rows: slice = slice(None), *, scale: float = 1.0, bias: bool = True
) -> nn.Conv2d:
    """What `linear` makes of the same arguments, as a 1x1 convolution."""
    part = linear(layer, rows, scale=scale, bias=bias)
    conv = nn.Conv2d(part.in_features, part.out_features, 1, bias=False, dtype=part.weight.dtype)
    conv.weight, conv.bias = nn.Parameter(part.weight[:, :, None, None]), part.bias
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
