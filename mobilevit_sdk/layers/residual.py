"""The residual connection around any block (He et al., arXiv 1512.03385)."""

from __future__ import annotations

from torch import Tensor, nn

from mobilevit_sdk.layers.stochastic_depth import StochasticDepth


class Residual(nn.Module):
    """x + branch(x). Shapes: [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, branch: nn.Module, stochastic_depth: float) -> None:
        super().__init__()
        self.branch = branch
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.stochastic_depth(self.branch(x))
