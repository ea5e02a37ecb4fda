"""Normalisation of channels-first tokens that float16 carries.

With s = 1/8 and the deviations d = s x - mean(s x): d / sqrt(mean(d * d) + s^2 eps)  ==  norm(x); a power of two costs
no digit. In float16, squares of x are infinite from 256 on. Those of d are finite for deviations of x up to 2047, and
have all their digits from 1/16 on. A norm over the channels alone is written as coremltools knows it and becomes one
`layer_norm` over axis 1, of scaled values, so it stays in range whatever a device squares in it. At the small end,
s^2 eps is a subnormal float16 (1.8e-7 for an eps of 1e-5), as that eps itself is.

Gain and bias, where a norm still has them, are a depthwise 1x1 convolution: as a product and a sum, coremltools 9.0
would merge them into a batch_norm with an eps of 1e-5, which is another gain.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SCALE = 1 / 8


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
        self.eps = _SCALE**2 * norm.eps
        self.register_buffer("weight", None if norm.weight is None else norm.weight.detach().view(-1, 1, 1, 1))
        self.register_buffer("bias", None if norm.bias is None else norm.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        x = x * _SCALE
        x = x - self._mean(x)
        x = x * torch.rsqrt(self._mean(x * x) + self.eps)
        return x if self.weight is None else F.conv2d(x, self.weight, self.bias, groups=x.shape[1])

    def _mean(self, x: Tensor) -> Tensor:
        if self.over_everything:
            x = x.mean((2, 3), keepdim=True)  # a global pool: the mean of all is the mean of the channels' means
        return x.mean(1, keepdim=True)
