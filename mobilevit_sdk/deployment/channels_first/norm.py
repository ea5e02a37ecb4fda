"""Normalization of channels-first tokens.

With the deviations d = x - mean(x): d / sqrt(mean(d * d) + eps)  ==  norm(x). A norm over the channels alone is written
as coremltools knows it and becomes one `layer_norm` over axis 1.

Gain and bias, where a norm still has them, are a depthwise 1x1 convolution: as a product and a sum, coremltools 9.0
would merge them into a batch_norm with an eps of 1e-5, which is another gain.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelsFirstNorm(nn.Module):
    """A LayerNorm over the channels of each token, or a GroupNorm with one group, over everything.

    Shapes: [1, C, P, N] -> [1, C, P, N].
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, norm: nn.LayerNorm | nn.GroupNorm) -> None:
        super().__init__()
        self.over_everything = isinstance(norm, nn.GroupNorm)
        if isinstance(norm, nn.GroupNorm) and norm.num_groups != 1:
            raise ValueError(f"a norm over everything has one group, not {norm.num_groups}")
        self.eps = norm.eps
        self.register_buffer("weight", None if norm.weight is None else norm.weight.detach().view(-1, 1, 1, 1))
        self.register_buffer("bias", None if norm.bias is None else norm.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        x = x - self._mean(x)
        x = x * torch.rsqrt(self._mean(x * x) + self.eps)
        return x if self.weight is None else F.conv2d(x, self.weight, self.bias, groups=x.shape[1])

    def _mean(self, x: Tensor) -> Tensor:
        if self.over_everything:
            x = x.mean((2, 3), keepdim=True)  # a global pool: the mean of all is the mean of the channels' means
        return x.mean(1, keepdim=True)
