"""A latency table: how many microseconds a multiply-accumulate of each layer takes on this machine.

Depthwise convolutions and small maps take more of them than large products do, which a count of multiply-accumulates
does not know. Each layer is timed alone, in PyTorch on one thread, on what it gets of one image: no phone's latency,
but its order. A table measured elsewhere, of the same names, does as well.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mobilevit_sdk.pruning.cost import mac_rates
from mobilevit_sdk.pruning.structure import Structure

_ROUNDS = 15


@torch.inference_mode()
def measure_table(
    model: nn.Module, image_size: tuple[int, int], report: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, float]:
    """Microseconds for each multiply-accumulate of every layer's weight, and of products by the mean of all layers.

    `image_size` is (H, W) in pixels; `report` hears how many layers of how many are done.
    """
    structure = Structure(model)
    rates = mac_rates(structure, image_size)
    inputs: dict[str, Tensor] = {}
    layers = {f"{name}.weight": each for name, each in model.named_modules() if isinstance(each, nn.Conv2d | nn.Linear)}

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda layer, given: inputs.update({name: given[0].clone()})

    hooks = [layer.register_forward_pre_hook(remember(name)) for name, layer in layers.items()]
    training, threads = model.training, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model.eval()(torch.rand(1, 3, *image_size, dtype=next(model.parameters()).dtype))
        for hook in hooks:
            hook.remove()
        table: dict[str, float] = {}
        for done, (name, given) in enumerate(inputs.items()):
            table[name] = _microseconds(layers[name], given) / (rates[name] * layers[name].weight.numel())
            report(done + 1, len(inputs))
    finally:
        torch.set_num_threads(threads)
        model.train(training)
    typical = statistics.median(table.values())
    return {name: table.get(name, typical) for name in rates}


def _microseconds(layer: nn.Module, given: Tensor) -> float:
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        layer(given)
        times.append(time.perf_counter() - started)
    return 1e6 * statistics.median(times)
