"""The inverted residual of MobileNetV2 (Sandler et al., arXiv 1801.04381)."""

from __future__ import annotations

from torch import Tensor, nn

from mobilevit_sdk.layers.conv import ConvNormAct
from mobilevit_sdk.layers.stochastic_depth import StochasticDepth


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; with a residual where shapes allow it, unless `residual` is False.

    Shapes: [B, in_channels, H, W] -> [B, out_channels, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        hidden_channels: int,
        residual: bool = True,
        stochastic_depth: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        hidden = hidden_channels
        self.expand = ConvNormAct(in_channels, hidden, 1, norm_eps=norm_eps)
        self.depthwise = ConvNormAct(hidden, hidden, 3, stride=stride, groups=hidden, norm_eps=norm_eps)
        self.project = ConvNormAct(hidden, out_channels, 1, activation=None, norm_eps=norm_eps)
        self.has_residual = residual and stride == 1 and in_channels == out_channels
        self.stochastic_depth = StochasticDepth(stochastic_depth if self.has_residual else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + self.stochastic_depth(y) if self.has_residual else y
