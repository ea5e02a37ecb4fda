"""Tokens as maps [1, C, P, N]: channels, then P windows or places within patches, then N tokens that see each other.

The layout that Apple's Neural Engine is built for (Deploying Transformers on the Apple Neural Engine, 2022,
https://machinelearning.apple.com/research/neural-engine-transformers): rank 4, channels on the second axis, linears as
1x1 convolutions, attention head by head with products over the channels. Between the cut and the map put together again
no axis moves, but for those of the keys. Each file holds one identity.
"""

from __future__ import annotations

from torch import nn

from mobilevit_sdk.deployment.channels_first.cascaded_attention import cascaded_attention_channels_first
from mobilevit_sdk.deployment.channels_first.objects import objects_channels_first
from mobilevit_sdk.deployment.channels_first.patches import patches_channels_first
from mobilevit_sdk.deployment.channels_first.pooled import pooled_layers_as_maps
from mobilevit_sdk.deployment.channels_first.separable_attention import separable_attention_channels_first
from mobilevit_sdk.deployment.channels_first.tokens import image_tokens_channels_first
from mobilevit_sdk.deployment.channels_first.windows import windows_channels_first

__all__ = ["tokens_channels_first"]


def tokens_channels_first(network: nn.Module) -> None:
    """Put all tokens of a network into the layout [1, C, P, N], in place; BatchNorms must be folded before.

    Unknown layers stay as they are, and the audit names them.
    """
    patches_channels_first(network)
    windows_channels_first(network)
    image_tokens_channels_first(network)
    cascaded_attention_channels_first(network)
    separable_attention_channels_first(network)
    objects_channels_first(network)
    pooled_layers_as_maps(network)
