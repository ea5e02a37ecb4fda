"""Whether this hardware trains faster in bfloat16: without instructions for it, it takes several times as long."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mobilevit_sdk.spec import Strict

ROUNDS = 3  # that are timed, after one that is not
CPU_IMAGES = 8  # of a step: a CPU is as slow with few as with many, a GPU is not


class Precision(Strict, frozen=True, kw_only=True):
    """What a training runs in, and the seconds that a forward and backward pass took in either precision."""

    used: Literal["fp32", "bf16"]
    fp32: float = 0.0
    bf16: float = 0.0

    @property
    def note(self) -> str:
        """What was measured; empty where nothing was."""
        if not self.bf16:
            return ""
        if self.used == "bf16":
            return f"bf16 is {self.fp32 / self.bf16:.1f} times as fast as fp32 here"
        return f"bf16 takes {self.bf16 / self.fp32:.1f} times as long as fp32 here: training in fp32"


def measured(
    model: nn.Module, answers: Callable[[nn.Module, Any], Any], x: Any, device: torch.device
) -> tuple[float, float]:
    """Seconds of a forward and backward pass of `model` in fp32 and in bf16, the least of a few in turns.

    The network and all random numbers stay as they are.
    """
    network = copy.deepcopy(model).train()
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for number in range(ROUNDS + 1):
            for kind in best:
                seconds = _seconds(network, answers, x, device, kind)
                best[kind] = min(best[kind], seconds if number else best[kind])
    return best[torch.float32], best[torch.bfloat16]


def _seconds(
    network: nn.Module, answers: Callable[[nn.Module, Any], Any], x: Any, device: torch.device, kind: torch.dtype
) -> float:
    network.zero_grad(set_to_none=True)
    _wait(device)
    started = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=kind == torch.bfloat16):
        found = answers(network, x)
    sums = [each.float().square().mean() for each in tree_leaves(found) if isinstance(each, Tensor)]
    torch.stack(sums).sum().backward()  # type: ignore[no-untyped-call]
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
