"""Targets as data: what each backend takes whole, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mobilevit_sdk.errors import RequestError, nearest


@dataclass(frozen=True)
class Target:
    """A backend. `layer_norm` is the form of LayerNorm that it runs without leaving its delegate."""

    name: str
    max_rank: int
    layer_norm: Literal["native", "matmul"]


TARGETS = {
    target.name: target
    for target in (
        Target("coreml", max_rank=5, layer_norm="native"),
        Target("litert-cpu", max_rank=5, layer_norm="native"),
        # ExecuTorch's XNNPACK partitioner leaves native_layer_norm, and any mean but a global pool, to slow kernels.
        Target("xnnpack", max_rank=6, layer_norm="matmul"),
    )
}


def find_target(name: str) -> Target:
    """The target `name`. Raises RequestError with the nearest names when there is none."""
    if name not in TARGETS:
        raise RequestError(f"unknown target {name!r}; {nearest(name, TARGETS)}")
    return TARGETS[name]
