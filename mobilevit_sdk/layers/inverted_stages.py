"""The inverted residuals that begin each stage of both MobileViTs."""

from __future__ import annotations

from torch import nn

from mobilevit_sdk.layers.inverted_residual import InvertedResidual


def inverted_residuals(
    in_channels: int,
    channels: int,
    hidden: tuple[int, ...],
    *,
    stride: int,
    residual: bool,
    stochastic_depth: float,
    norm_eps: float,
) -> nn.Sequential:
    """The inverted residuals of a stage, named by number, each with its `hidden` channels; 0 leaves one out.

    The first has the stride, and a residual where shapes allow it and `residual` is set.
    """
    blocks = nn.Sequential()
    for j, width in enumerate(hidden):
        if width:
            block = InvertedResidual(
                in_channels,
                channels,
                stride=1 if j else stride,
                hidden_channels=width,
                residual=bool(j) or residual,
                stochastic_depth=stochastic_depth,
                norm_eps=norm_eps,
            )
            blocks.add_module(str(j), block)
        in_channels = channels
    return blocks
