"""The sandwich of EfficientViT (arXiv 2305.07027, figure 6b), and the downsampling within one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn

from mobilevit_sdk.channel_groups.groups import Slice, Width, gates, reads, width, writes
from mobilevit_sdk.layers.cascaded_attention import CascadedGroupAttention
from mobilevit_sdk.layers.conv import ConvNormAct
from mobilevit_sdk.layers.residual import Residual
from mobilevit_sdk.layers.squeeze_excite import SqueezeExcite


class FFN(nn.Module):
    """Two 1x1 convolutions with other channels between them. Shapes: [B, dim, H, W] -> [B, dim, H, W]."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.expand = ConvNormAct(dim, hidden, 1, activation=nn.ReLU)
        self.project = ConvNormAct(hidden, dim, 1, activation=None)
        nn.init.zeros_(self.project.norm.weight)  # training starts from the identity

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.expand(x))

    def width(self, name: str) -> Width:
        hidden = (*writes(self.expand), *reads(self.project))
        return width("FFN", self.expand.conv.out_channels, hidden, name=name, scale_equivariant=True)


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

    def widths(self) -> Iterator[Width]:
        gate = self.squeeze_excite
        hidden = (*writes(self.expand), *writes(self.depthwise), *reads(gate.fc1), *gates(gate.fc2))
        hidden += reads(self.project)
        yield width("expansion", self.expand.conv.out_channels, hidden, name="hidden", scale_equivariant=True)
        yield from gate.widths()


class Sandwich(nn.Module):
    """Figure 6b: a mixer between depthwise convolutions and FFNs, all of them residual but perhaps the mixer.

    Shapes: [B, in_channels, H, W] -> [B, out_channels, H', W'], H' and W' being what the mixer makes of H and W.
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

    def widths(self) -> Iterator[Width]:
        yield _ffn(self.ffn0).width("ffn0")
        mixer = self.mixer.branch if isinstance(self.mixer, Residual) else self.mixer
        yield from cast("CascadedGroupAttention | PatchMerging", mixer).widths()
        yield _ffn(self.ffn1).width("ffn1")

    def on_stream_before(self) -> tuple[Slice, ...]:
        """What reads and writes the residual stream before the mixer."""
        return _on_stream(self.dw0, self.ffn0)

    def on_stream_after(self) -> tuple[Slice, ...]:
        """What reads and writes it after the mixer."""
        return _on_stream(self.dw1, self.ffn1)


def _on_stream(dw: Residual, ffn: Residual) -> tuple[Slice, ...]:
    assert isinstance(dw.branch, ConvNormAct)
    return (*writes(dw.branch), *reads(_ffn(ffn).expand), *writes(_ffn(ffn).project))


def _ffn(residual: Residual) -> FFN:
    assert isinstance(residual.branch, FFN)
    return residual.branch


def _depthwise(channels: int) -> ConvNormAct:
    return ConvNormAct(channels, channels, 3, groups=channels, activation=None)
