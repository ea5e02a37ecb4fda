"""The sandwich block of EfficientViT (arXiv 2305.07027, figure 6b), and its downsampling."""

from __future__ import annotations

from torch import Tensor, nn

from mobilevit_sdk.layers.conv import ConvNormAct
from mobilevit_sdk.layers.residual import Residual
from mobilevit_sdk.layers.squeeze_excite import SqueezeExcite


class FFN(nn.Module):
    """Two 1x1 convolutions with `hidden` channels between them. Shapes: [B, dim, H, W] -> [B, dim, H, W]."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.expand = ConvNormAct(dim, hidden, 1, activation=nn.ReLU)
        self.project = ConvNormAct(hidden, dim, 1, activation=None)
        nn.init.zeros_(self.project.norm.weight)  # training starts from the identity

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.expand(x))


class PatchMerging(nn.Module):
    """An inverted residual with squeeze-excitation that halves the resolution; published with an expansion of 4.

    Shapes: [B, in_channels, H, W] -> [B, out_channels, ceil(H / 2), ceil(W / 2)].
    """

    def __init__(self, in_channels: int, out_channels: int, hidden: int, squeezed: int) -> None:
        super().__init__()
        self.expand = ConvNormAct(in_channels, hidden, 1, activation=nn.ReLU)
        self.depthwise = ConvNormAct(hidden, hidden, 3, stride=2, groups=hidden, activation=nn.ReLU)
        self.squeeze_excite = SqueezeExcite(hidden, squeezed)
        self.project = ConvNormAct(hidden, out_channels, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.squeeze_excite(self.depthwise(self.expand(x))))


class Sandwich(nn.Module):
    """Figure 6b: a mixer between residual depthwise convolutions and FFNs; the mixer may be residual or not.

    Shapes: [B, in_channels, H, W] -> [B, out_channels, H', W'], with H' and W' as the mixer makes them.
    """

    def __init__(
        self,
        in_channels: int,
        mixer: nn.Module,
        out_channels: int,
        *,
        hidden: tuple[int, int],
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        self.dw0 = Residual(_depthwise(in_channels), stochastic_depth)
        self.ffn0 = Residual(FFN(in_channels, hidden[0]), stochastic_depth)
        self.mixer = mixer
        self.dw1 = Residual(_depthwise(out_channels), stochastic_depth)
        self.ffn1 = Residual(FFN(out_channels, hidden[1]), stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn1(self.dw1(self.mixer(self.ffn0(self.dw0(x)))))


def _depthwise(channels: int) -> ConvNormAct:
    return ConvNormAct(channels, channels, 3, groups=channels, activation=None)
