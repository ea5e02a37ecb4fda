"""A quantized phone graph simulated in floating point, without any phone format."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment import PhoneGraph
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.quantization import MIN_INT4_WEIGHTS, QuantizationRecipe
from mobilevit_sdk.formats.ranges import RangeEstimator
from mobilevit_sdk.layers.hooks import forward_hooks

Layer = nn.Conv2d | nn.Linear
LEVELS = 255  # steps between the lowest and the highest of 8 bits


@dataclass(frozen=True)
class Ranges:
    """(low, high) of the input and of the output of a layer."""

    input: tuple[float, float]
    output: tuple[float, float]


def layers(graph: PhoneGraph) -> dict[str, Layer]:
    """The convolutions and linears of the network by path, in the order of its modules."""
    return {path: module for path, module in graph.network.named_modules() if isinstance(module, Layer)}


def quantized_layers(graph: PhoneGraph, recipe: QuantizationRecipe) -> dict[str, Layer]:
    """Those that the recipe turns into integers."""
    kind = {nn.Conv2d: "convolution", nn.Linear: "linear"}
    return {
        path: layer
        for path, layer in layers(graph).items()
        if kind[type(layer)] in recipe.operators and not recipe.keeps_float(path)
    }


@torch.no_grad()
def observe_ranges(
    graph: PhoneGraph,
    recipe: QuantizationRecipe,
    images: Iterable[np.ndarray],
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, Ranges]:
    """The ranges around every convolution and linear, over `images`, each RGB float32 [1, 3, H, W] in [0, 1].

    A layer that never runs, such as the scores of attention over one token, has none. `report` is told how many images
    are done. Raises RequestError when there are no images.
    """
    estimators = {path: (RangeEstimator(recipe), RangeEstimator(recipe)) for path in layers(graph)}

    def observer(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def observe(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            estimators[path][0].observe(inputs[0].numpy())
            estimators[path][1].observe(output.numpy())

        return observe

    done = 0
    with forward_hooks(after=[(layer, observer(path)) for path, layer in layers(graph).items()]):
        for image in images:
            graph(torch.from_numpy(image))
            report(done := done + 1)
    if not done:
        raise RequestError("there are no images to observe ranges with")
    return {path: Ranges(*(each.range() for each in pair)) for path, pair in estimators.items() if pair[0].seen}


@torch.no_grad()
def simulate(
    graph: PhoneGraph, recipe: QuantizationRecipe, precision: str, ranges: dict[str, Ranges] | None = None
) -> PhoneGraph:
    """A copy of `graph` with rounded weights and, for `int8` and `int8-dynamic`, rounded inputs of its layers.

    `int8` needs `ranges`, and rounds the outputs of layers as well: the next operator reads them in 8 bits.
    """
    simulated = copy.deepcopy(graph)
    for path, layer in quantized_layers(simulated, recipe).items():
        bits = weight_bits(layer.weight, precision, recipe.group_size)
        layer.weight.copy_(round_weights(layer.weight, bits, recipe.group_size))
        if precision == "int8" and path in (ranges or {}):
            assert ranges is not None
            _round_around(layer, ranges[path])
        elif precision == "int8-dynamic":
            layer.register_forward_pre_hook(lambda module, inputs: (_round_dynamically(inputs[0]),))
    return simulated


def weight_bits(weight: Tensor, precision: str, group_size: int) -> int:
    """The bits of a layer's weights [O, I, ...].

    In int4-weight, large linears and 1x1 convolutions whose rows divide into groups have 4, as in .tflite. ExecuTorch
    keeps 8 for 1x1 convolutions and gives 4 to the other linears, by row; the palettes of Core ML lose less.
    """
    in_groups = weight[0].numel() == weight.shape[1] and weight.shape[1] % group_size == 0
    return 4 if precision == "int4-weight" and in_groups and weight.numel() >= MIN_INT4_WEIGHTS else 8


def round_weights(weight: Tensor, bits: int, group_size: int) -> Tensor:
    """Round to 2^bits - 1 symmetric levels, by output channel; in 4 bits by groups of `group_size` inputs.

    Shapes: [O, ...] -> the same.
    """
    highest = 2 ** (bits - 1) - 1
    rows = weight.flatten(1)
    if bits == 4 and rows.shape[1] % group_size == 0:
        rows = rows.reshape(-1, group_size)
    scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / highest
    return ((rows / scale).round() * scale).reshape(weight.shape)


def round_activations(x: Tensor, low: float, high: float) -> Tensor:
    """Round to 256 levels from `low` to `high`, one of which is zero; values outside are clipped."""
    scale = max(high - low, 1e-12) / LEVELS
    zero = round(-low / scale)
    return (((x / scale).round() + zero).clamp(0, LEVELS) - zero) * scale


def _round_around(layer: Layer, ranges: Ranges) -> None:
    """Round the input and the output; scores, the only outputs of rank 2, stay float in every format."""

    def written(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output if output.dim() == 2 else round_activations(output, *ranges.output)

    layer.register_forward_pre_hook(lambda module, inputs: (round_activations(inputs[0], *ranges.input),))
    layer.register_forward_hook(written)


def _round_dynamically(x: Tensor) -> Tensor:
    """Each row of a matrix product, or the whole of a map, by its own range."""
    if x.dim() == 4:
        return round_activations(x, min(float(x.min()), 0.0), max(float(x.max()), 0.0))
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = (high - low).clamp(min=1e-12) / LEVELS
    zero = (-low / scale).round()
    return (((x / scale).round() + zero).clamp(0, LEVELS) - zero) * scale
