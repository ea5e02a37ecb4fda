"""The latency of single layers in XNNPACK: one program with a method for each layer, measured in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mobilevit_converters.executorch.passes.lowering import xnnpack_lowering
from mobilevit_converters.executorch.toolchain import import_module, import_runtime
from mobilevit_sdk.errors import ToolchainError

ROUNDS = 30
CALLS = 5  # of a layer in a row; a first, untimed call of each round brings its weights back into the caches


class _ChannelsLast(nn.Module):
    """A layer of feature maps as within a delegate, where channels come last: [B, H, W, C] -> [B, H, W, C]."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return out


class _Nothing(nn.Module):
    """The cost of a call itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x


def time_layers(layers: Sequence[tuple[nn.Module, tuple[int, ...]]], report: Callable[[int, int], None]) -> list[float]:
    """Microseconds of each layer on one thread, without the cost of the call, for an input of the shape beside it.

    For a process that does nothing else. Raises ToolchainError.
    """
    timed = [(_Nothing(), torch.rand(1, 4)), *(_as_in_delegate(*each) for each in layers)]
    try:
        program = _lowered(timed)
        methods = _methods(program, len(timed))
    except Exception as error:
        raise ToolchainError(f"ExecuTorch cannot time layers: {type(error).__name__}: {error}") from error
    seconds: list[list[float]] = [[] for _ in timed]
    for done in range(ROUNDS):
        for method, (_, given), times in zip(methods, timed, seconds, strict=True):
            method.execute([given])
            started = time.perf_counter()
            for _ in range(CALLS):
                method.execute([given])
            times.append((time.perf_counter() - started) / CALLS)
        report(done + 1, ROUNDS)
    nothing, *medians = (statistics.median(times) for times in seconds)
    return [1e6 * max(median - nothing, nothing / 10) for median in medians]


def _as_in_delegate(layer: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    if len(shape) != 4:
        return layer, torch.rand(shape)
    batch, channels, height, width = shape
    return _ChannelsLast(layer), torch.rand(batch, height, width, channels)


def _lowered(timed: Sequence[tuple[nn.Module, Tensor]]) -> bytes:
    exir = import_module("executorch.exir")
    programs = {f"layer_{i}": torch.export.export(layer.eval(), (given,)) for i, (layer, given) in enumerate(timed)}
    with xnnpack_lowering() as partitioner:
        partitioners = {name: [partitioner()] for name in programs}
        edge = exir.to_edge_transform_and_lower(programs, partitioner=partitioners)
    return bytes(edge.to_executorch().buffer)


def _methods(program: bytes, count: int) -> list[Any]:
    bindings = import_runtime("executorch.extension.pybindings.portable_lib")
    bindings._unsafe_reset_threadpool(1)
    loaded = import_runtime("executorch.runtime").Runtime.get().load_program(program)
    return [loaded.load_method(f"layer_{i}") for i in range(count)]
