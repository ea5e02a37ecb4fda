"""Rounded weights shift the mean of what a layer writes; its bias takes that back.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, with
means over calibration images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.deployment import PhoneGraph
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.layers.hooks import forward_hooks
from mobilevit_sdk.quantization.simulation import Layer, quantized_layers, round_weights


@torch.no_grad()
def correct_biases(graph: PhoneGraph, recipe: QuantizationRecipe, images: Iterable[np.ndarray]) -> None:
    """Add to the bias of every layer that the recipe rounds to 8 bits what the rounding takes from its mean, in place.

    b' = b + E[W x] - E[round(W) x] for each output channel, over `images`, each RGB float32 [1, 3, H, W] in [0, 1], and
    all places. A layer without a bias gets one.
    """
    rounded = quantized_layers(graph, recipe)
    lost = {path: layer.weight - round_weights(layer.weight, 8, recipe.group_size) for path, layer in rounded.items()}
    shifts: dict[str, list[Tensor]] = {path: [] for path in rounded}

    def observer(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def observe(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(layer, Layer)
            shifts[path].append(_mean_product(layer, inputs[0], lost[path]))

        return observe

    with forward_hooks(after=[(layer, observer(path)) for path, layer in rounded.items()]):
        for image in images:
            graph(torch.from_numpy(image))
    for path, layer in rounded.items():
        if shifts[path]:  # nobody asks for the scores of attention over one token
            shift = torch.stack(shifts[path]).mean(0)
            bias = shift if layer.bias is None else layer.bias + shift
            layer.bias = nn.Parameter(bias, requires_grad=False)


def _mean_product(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """The mean of what `layer` would write with `weight` and no bias: [out channels]."""
    if isinstance(layer, nn.Linear):
        return F.linear(x.flatten(0, -2).mean(0), weight)
    y = F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return y.mean((0, 2, 3))
