"""Layers that act in training only.

dropout(x) == x and stochastic_depth(x) == x in eval mode.
"""

from __future__ import annotations

from torch import nn

from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import StochasticDepth


def remove_dropout(network: nn.Module) -> None:
    """Replace dropout and stochastic depth by the identity, in place, so that no trace of them is exported."""
    replace_layers(network, nn.Dropout, lambda _: nn.Identity())
    replace_layers(network, StochasticDepth, lambda _: nn.Identity())
