"""A latency table: how many microseconds a multiply-accumulate of each layer takes on this machine.

Depthwise convolutions and small maps take more of them than large products do, which a count of multiply-accumulates
does not know. Each layer, with the norm and activation that follow it, is timed alone on one thread, with its input for
one image: in the runtime of a phone format where a converter offers that, else in PyTorch. That is not the latency on a
phone, but ranks layers alike; a table measured elsewhere, with the same names, can be used instead.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mobilevit_sdk.formats.converter import TimesLayers, converters
from mobilevit_sdk.layers import ConvNormAct
from mobilevit_sdk.layers.hooks import forward_hooks
from mobilevit_sdk.processes.child import emit, run_in_child
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.pruning.cost import mac_rates
from mobilevit_sdk.pruning.structure import Structure

_ROUNDS = 15

Layers = Sequence[tuple[nn.Module, tuple[int, ...]]]  # each with the shape of its input


def timing_format() -> str | None:
    """The format whose runtime times layers here; None where only PyTorch can."""
    return next((n for n, each in converters().items() if isinstance(each, TimesLayers) and each.availability()), None)


def measure_table(model: nn.Module, image_size: tuple[int, int], progress: Progress = silent) -> dict[str, float]:
    """Microseconds per multiply-accumulate of each layer's weight; for products of activations, the mean of all layers.

    `image_size` is (H, W) in pixels; `progress` counts the layers. Raises ToolchainError when the runtime fails.
    """
    rates = mac_rates(Structure(model), image_size)
    layers = _layers(model, image_size)
    alike: dict[str, list[str]] = {}  # layers that compute alike are timed once
    for name, (layer, shape) in layers.items():
        alike.setdefault(f"{layer} {shape}", []).append(name)
    distinct = [layers[names[0]] for names in alike.values()]
    chosen = timing_format()
    if chosen is None:
        microseconds = _time_in_pytorch(distinct, progress)
    else:
        microseconds = run_in_child(time_in_child, chosen, distinct, on_event=progress)
    costs = {name: cost for names, cost in zip(alike.values(), microseconds, strict=True) for name in names}
    counts = {name: rates[name] * model.get_parameter(name).numel() for name in costs}
    typical = sum(costs.values()) / sum(counts.values())
    return {name: costs[name] / counts[name] if name in costs else typical for name in rates}


def time_in_child(format_name: str, layers: Layers) -> list[float]:
    """In a child process: `TimesLayers.time_layers` of a format; emits a step for each layer."""
    converter = converters()[format_name]
    assert isinstance(converter, TimesLayers)
    stage = f"timing layers in {format_name}"
    return converter.time_layers(layers, lambda done, total: emit(Step(stage, done, total)))


@torch.inference_mode()
def _layers(model: nn.Module, image_size: tuple[int, int]) -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Each layer with its norm and activation, and the shape of its input, by the name of its weight."""
    found: dict[str, nn.Module] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, ConvNormAct):
            found[f"{name}.conv.weight"] = layer
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            found.setdefault(f"{name}.weight", layer)
    shapes: dict[str, tuple[int, ...]] = {}

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda layer, given: shapes.update({name: tuple(given[0].shape)})

    training, parameter = model.training, next(model.parameters())
    try:
        with forward_hooks(before=[(layer, remember(name)) for name, layer in found.items()]):
            model.eval()(torch.rand(1, 3, *image_size, dtype=parameter.dtype, device=parameter.device))
    finally:
        model.train(training)
    return {name: (copy.deepcopy(found[name]).float().cpu().eval(), shape) for name, shape in shapes.items()}


@torch.inference_mode()
def _time_in_pytorch(layers: Layers, progress: Progress) -> list[float]:
    microseconds, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for done, (layer, shape) in enumerate(layers):
            given, times = torch.rand(shape), []
            for _ in range(_ROUNDS):
                started = time.perf_counter()
                layer(given)
                times.append(time.perf_counter() - started)
            microseconds.append(1e6 * statistics.median(times))
            progress(Step("timing layers in PyTorch", done + 1, len(layers)))
    finally:
        torch.set_num_threads(threads)
    return microseconds
