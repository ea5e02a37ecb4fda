"""Rounded weights shift the mean of a layer's output; its bias corrects that.

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
    """Correct the biases of the layers that the recipe quantizes for what rounding to 8 bits shifts, in place.

    b' = b + E[W x] - E[round(W) x] for each output channel, over all positions and `images`, each RGB float32
    [1, 3, H, W] in [0, 1]. A layer without a bias gets one.
    """
    rounded = quantized_layers(graph, recipe)
    lost = {path: layer.weight - round_weights(layer.weight, 8, recipe.group_size) for path, layer in rounded.items()}
    means: dict[str, list[Tensor]] = {path: [] for path in rounded}

    def observer(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def observe(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(layer, Layer)
            means[path].append(mean_input(layer, inputs[0]))

        return observe

    with forward_hooks(after=[(layer, observer(path)) for path, layer in rounded.items()]):
        for image in images:
            graph(torch.from_numpy(image))
    for path, layer in rounded.items():
        if means[path]:  # the scores of attention over one token are never computed
            shift = _product(layer, lost[path], torch.stack(means[path]).mean(0))
            bias = shift if layer.bias is None else layer.bias + shift
            layer.bias = nn.Parameter(bias, requires_grad=False)


def mean_input(layer: Layer, x: Tensor) -> Tensor:
    """The mean over all positions of what one output of `layer` reads, which takes far less than to compute them.

    A layer is linear, so the mean of its outputs is its output for this mean. Shapes: [..., in channels] -> [in
    channels] for a linear layer, [B, in channels, H, W] -> [in channels, kernel height, kernel width] for a
    convolution.
    """
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2).mean(0)
    x = F.pad(x, layer._reversed_padding_repeated_twice)
    for axis in (2, 3):  # then the mean over rows has no axis of rows any more, and one of the kernel at the end
        spread = layer.dilation[axis - 2] * (layer.kernel_size[axis - 2] - 1) + 1
        windows = x.unfold(2, spread, layer.stride[axis - 2])[..., :: layer.dilation[axis - 2]]
        x = windows.mean(2)
    return x.mean(0)


def _product(layer: Layer, weight: Tensor, mean: Tensor) -> Tensor:
    """The mean output of `layer` with `weight` and without its bias: [out channels]."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return (weight.reshape(groups, len(weight) // groups, -1) @ mean.reshape(groups, -1, 1)).flatten()
