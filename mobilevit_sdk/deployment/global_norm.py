"""Normalization over a whole feature map (GroupNorm with one group), also for backends without the operator.

The mean of all is the mean over the channels of each channel's mean: a global pool, and a product with (1/C, ..., 1/C).
The variance is the mean of d * d of the deviations d = x - mean(x), so norm(x) == d / sqrt(mean(d * d) + eps). Two
passes, because the difference mean(x * x) - mean(x)^2 loses the digits that both have in common.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.deployment.replace import replace_layers


class GlobalNorm(nn.Module):
    """To mean 0 and variance 1 over everything: a GroupNorm without gain and bias. Shapes: [1, C, H, W] -> the same."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        if norm.num_groups != 1 or [*norm.parameters()]:
            raise ValueError("a norm over everything has one group, and neither gain nor bias")
        self.channels: int = norm.num_channels
        self.eps: float = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape, eps=self.eps)


class MatmulGlobalNorm(nn.Module):
    """`GlobalNorm` as global pools and matrix products. Shapes: [1, C, H, W] -> the same."""

    row: Tensor
    eps: Tensor

    def __init__(self, norm: GlobalNorm) -> None:
        super().__init__()
        self.register_buffer("row", torch.full((1, norm.channels, 1, 1), 1 / norm.channels, dtype=torch.float64))
        # The bias of the product that takes the variance: an addition of a scalar would stay outside the delegate.
        self.register_buffer("eps", torch.full((1,), norm.eps, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        x = x - F.conv2d(_pool(x), self.row)
        return x * torch.rsqrt(F.conv2d(_pool(x * x), self.row, self.eps))


def global_norms_as_matmuls(network: nn.Module) -> None:
    """Replace every GlobalNorm by its matmul form, in place."""
    replace_layers(network, GlobalNorm, MatmulGlobalNorm)


def _pool(x: Tensor) -> Tensor:
    """[1, C, H, W] -> the mean of each channel, [1, C, 1, 1]."""
    return x.mean((2, 3), keepdim=True)
