"""What follows a global pool as maps of one pixel: a linear or LayerNorm of [B, C] is one of [B, C, 1, 1]."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.deployment.channels_first.norm import ChannelsFirstNorm
from mobilevit_sdk.deployment.replace import replace_layers


class PooledLinear(nn.Linear):
    """A linear as a 1x1 convolution of one pixel. Shapes: [B, C] -> [B, D]; tokens in rows answer as before."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, dtype=linear.weight.dtype)
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2:
            return super().forward(x)
        return F.conv2d(x.reshape(*x.shape, 1, 1), self.weight[:, :, None, None], self.bias).flatten(1)


class PooledLayerNorm(nn.Module):
    """A LayerNorm of one pixel's channels. Shapes: [B, C] -> [B, C]; tokens in rows answer as before."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.rows = norm
        self.norm = ChannelsFirstNorm(norm)

    def forward(self, x: Tensor) -> Tensor:
        normalized: Tensor = self.norm(x.reshape(*x.shape, 1, 1)).flatten(1) if x.dim() == 2 else self.rows(x)
        return normalized


def pooled_layers_as_maps(network: nn.Module) -> None:
    """Replace every linear and LayerNorm that is left, in place."""
    replace_layers(network, nn.Linear, PooledLinear)
    replace_layers(network, nn.LayerNorm, PooledLayerNorm)
