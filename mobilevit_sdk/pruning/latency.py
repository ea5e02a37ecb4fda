"""A latency table: how many microseconds a multiply-accumulate of each layer takes on this machine.

Depthwise convolutions and small maps take more of them than large products do, which a count of multiply-accumulates
does not know. Each layer, with the norm and activation that follow it, is timed alone on one thread, for what it gets
of one image, and the phone graph as a whole beside them: in the runtime of a phone format where a converter offers
that. Elsewhere layers are timed in PyTorch. That is no phone's latency, but its order; a table measured elsewhere, of
the same names, does as well.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn

from mobilevit_sdk.child import emit, run_in_child
from mobilevit_sdk.converter import TimesLayers, converters
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.layers import ConvNormAct
from mobilevit_sdk.pruning.cost import mac_rates
from mobilevit_sdk.pruning.structure import Structure
from mobilevit_sdk.spec import Preprocessing

_ROUNDS = 15

Layers = Sequence[tuple[nn.Module, tuple[int, ...]]]  # each with the shape of its input


def timing_format() -> str | None:
    """The format whose runtime times layers here; None where PyTorch has to."""
    return next((n for n, each in converters().items() if isinstance(each, TimesLayers) and each.availability()), None)


def measure_table(
    model: nn.Module, preprocessing: Preprocessing, report: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, float]:
    """Microseconds for each multiply-accumulate of every layer's weight, and of every product.

    `report` hears how much of how much is done. Raises ToolchainError.
    """
    structure = Structure(model)
    rates = mac_rates(structure, preprocessing.image_size)
    counts = {name: rate * prod(structure.shapes[name]) for name, rate in rates.items()}
    layers = _layers(model, preprocessing.image_size)
    alike: dict[str, list[str]] = {}  # layers that compute alike are timed once
    for name, (layer, shape) in layers.items():
        alike.setdefault(f"{layer} {shape}", []).append(name)
    distinct = [layers[names[0]] for names in alike.values()]
    whole, chosen = None, timing_format()
    if chosen is None:
        microseconds = _time_in_pytorch(distinct, report)
    else:
        graph = deploy(model, converters()[chosen].target, preprocessing=preprocessing).float()
        timed = [*distinct, (graph, (1, 3, *preprocessing.image_size))]
        *microseconds, whole = run_in_child(time_in_child, chosen, timed, on_event=lambda event: report(*event))
    costs = {name: cost for names, cost in zip(alike.values(), microseconds, strict=True) for name in names}
    typical = sum(costs.values()) / sum(counts[name] for name in costs)
    costs = {name: costs.get(name, typical * count) for name, count in counts.items()}
    if whole is not None:
        _give_the_rest_to_blocks(costs, structure, whole)
    return {name: cost / counts[name] for name, cost in costs.items()}


def _give_the_rest_to_blocks(costs: dict[str, float], structure: Structure, whole: float) -> None:
    """What the whole network takes beyond its layers goes to blocks with attention, in proportion.

    Norms, softmax and most moves of data are theirs, and go when their channels, heads or they themselves go.
    """
    products = {name.rpartition(".")[0] for name in structure.shapes if name not in structure.model.state_dict()}
    blocks = tuple(f"{attention.rpartition('.')[0]}." for attention in products)
    theirs = [name for name in costs if name.startswith(blocks)]
    rest, known = whole - sum(costs.values()), sum(costs[name] for name in theirs)
    if rest > 0:
        for name in theirs:
            costs[name] *= 1 + rest / known


def time_in_child(format_name: str, layers: Layers) -> list[float]:
    """For a process of its own: `TimesLayers.time_layers` of a format."""
    converter = converters()[format_name]
    assert isinstance(converter, TimesLayers)
    return converter.time_layers(layers, lambda done, total: emit((done, total)))


@torch.inference_mode()
def _layers(model: nn.Module, image_size: tuple[int, int]) -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """By the name of its weight, each layer with what follows it, and the shape of what it gets."""
    found: dict[str, nn.Module] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, ConvNormAct):
            found[f"{name}.conv.weight"] = layer
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            found.setdefault(f"{name}.weight", layer)
    shapes: dict[str, tuple[int, ...]] = {}

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda layer, given: shapes.update({name: tuple(given[0].shape)})

    hooks = [layer.register_forward_pre_hook(remember(name)) for name, layer in found.items()]
    training, parameter = model.training, next(model.parameters())
    try:
        model.eval()(torch.rand(1, 3, *image_size, dtype=parameter.dtype, device=parameter.device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return {name: (copy.deepcopy(found[name]).float().cpu().eval(), shape) for name, shape in shapes.items()}


@torch.inference_mode()
def _time_in_pytorch(layers: Layers, report: Callable[[int, int], None]) -> list[float]:
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
            report(done + 1, len(layers))
    finally:
        torch.set_num_threads(threads)
    return microseconds
