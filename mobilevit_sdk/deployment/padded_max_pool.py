"""A max pool that pads with zeros, of what a ReLU has made.

max(-inf, x_1, ..., x_n)  ==  max(0, x_1, ..., x_n) where no x is below 0 and every window has one of them. Backends
take the padding with zeros as an operator of its own, where a padding with -inf, such as LiteRT's PADV2, stays outside.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.layers import ResNet


class PaddedMaxPool(nn.Module):
    """The inference form of a MaxPool2d with padding, for input that is not below 0. Shapes: as the pool's."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        assert isinstance(pool.padding, int)
        self.padding = pool.padding
        self.pool = nn.MaxPool2d(pool.kernel_size, pool.stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(F.pad(x, (self.padding,) * 4))
        return out


def pad_max_pools(network: nn.Module) -> None:
    """Replace the pool behind every ResNet's stem, which ends in a ReLU, in place."""
    for backbone in network.modules():
        if isinstance(backbone, ResNet) and isinstance(backbone.pool, nn.MaxPool2d):
            backbone.pool = PaddedMaxPool(backbone.pool)  # type: ignore[assignment]
