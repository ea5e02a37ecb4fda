"""Convolution, batch normalization, activation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class ConvNormAct(nn.Module):
    """Convolution without bias, BatchNorm, and an activation where one is given; same padding for odd kernels.

    Shapes: [B, in_channels, H, W] -> [B, out_channels, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        activation: Callable[[], nn.Module] | None = nn.SiLU,
        norm_eps: float = 1e-5,
        norm: Callable[..., nn.BatchNorm2d] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation=dilation, groups=groups, bias=False
        )
        self.norm = norm(out_channels, eps=norm_eps)
        self.activation = activation() if activation is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether each channel is convolved alone, into one output channel."""
    return conv.groups == conv.in_channels == conv.out_channels
