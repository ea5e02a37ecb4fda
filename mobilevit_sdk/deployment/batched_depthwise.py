"""Depthwise convolutions of a batch, such as of the windows of an image, for a backend that convolves one image only.

A depthwise convolution mixes no channels, so the maps of a batch may as well be more channels of one map:
[P, C, H, W] is [1, P C, H, W] in memory, and its kernels are those of the C channels, P times.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment.replace import replace_layer
from mobilevit_sdk.layers.conv import is_depthwise
from mobilevit_sdk.layers.hooks import forward_hooks


class BatchedDepthwise(nn.Module):
    """A depthwise convolution of `batch` maps as one of a single map. Shapes: as the convolution's, with that batch."""

    def __init__(self, conv: nn.Conv2d, batch: int) -> None:
        super().__init__()
        if not is_depthwise(conv) or conv.padding_mode != "zeros":
            raise ValueError("a depthwise convolution that pads with zeros")
        self.batch = batch
        channels = batch * conv.in_channels
        self.conv = nn.Conv2d(
            channels,
            channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            groups=channels,
            bias=conv.bias is not None,
            dtype=conv.weight.dtype,
        ).requires_grad_(False)
        self.conv.weight.copy_(conv.weight.repeat(batch, 1, 1, 1))
        if conv.bias is not None and self.conv.bias is not None:
            self.conv.bias.copy_(conv.bias.repeat(batch))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x.reshape(1, -1, *x.shape[2:]))
        return out.view(self.batch, -1, *out.shape[2:])


@torch.no_grad()
def unbatch_depthwise(network: nn.Module, image_size: tuple[int, int]) -> None:
    """Replace, in place, every depthwise convolution that gets several maps of one image of `image_size` = (H, W)."""
    batches: dict[nn.Conv2d, int] = {}

    def see(layer: nn.Module, given: tuple[Tensor]) -> None:
        if isinstance(layer, nn.Conv2d) and given[0].shape[0] > 1:
            batches[layer] = given[0].shape[0]

    depthwise = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and is_depthwise(layer)]
    with forward_hooks(before=[(layer, see) for layer in depthwise]):
        network(torch.zeros(1, 3, *image_size, dtype=next(network.parameters()).dtype))
    for conv, batch in batches.items():
        replace_layer(network, conv, BatchedDepthwise(conv, batch))
