"""The lowering to XNNPACK: with this SDK's passes, where the installed ExecuTorch is the one they were made for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from mobilevit_converters.executorch.passes import (
    dynamic_input_layout,
    fast_lowering,
    half_precision,
    partitioner,
    separate_ranges,
    transpose_elimination,
)
from mobilevit_converters.executorch.passes.replacement import is_there
from mobilevit_converters.executorch.toolchain import availability, import_module
from mobilevit_sdk.errors import ConversionWarning, ToolchainError

MADE_FOR = "1.5"  # the release of ExecuTorch whose private methods the passes replace

# Both act on the graph that is about to be serialized, in the reverse of the order in which they are entered.
CORRECTIONS = (dynamic_input_layout.dynamic_input_layout, separate_ranges.separate_ranges)
OPTIMIZATIONS = (fast_lowering.fast_lowering, transpose_elimination.eliminate_transposes)
REPLACES = (
    *dynamic_input_layout.REPLACES,
    *separate_ranges.REPLACES,
    *fast_lowering.REPLACES,
    *transpose_elimination.REPLACES,
    *partitioner.REPLACES,
    *half_precision.REPLACES,
)
NEED_PASSES = ("fp16", "int8-dynamic", "int4-weight")


@contextmanager
def xnnpack_lowering(precision: str = "fp32") -> Iterator[Callable[[], Any]]:
    """Within the context, ExecuTorch lowers to XNNPACK by our passes; yields what makes a partitioner.

    For a process that does nothing else. With an ExecuTorch that the passes were not made for, nothing is replaced and
    the partitioner is ExecuTorch's own: a ConversionWarning says so, and a `precision` that would be wrong then raises
    ToolchainError.
    """
    if reason := why_stock():
        if precision in NEED_PASSES:
            raise ToolchainError(f"{precision} needs ExecuTorch {MADE_FOR}: {reason}, and its answers may be wrong")
        warnings.warn(f"stock ExecuTorch lowering: {reason}", ConversionWarning, stacklevel=3)
        yield import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner").XnnpackPartitioner
        return
    with ExitStack() as stack:
        if precision == "fp16":  # entered first, so the last to edit a graph that is about to be serialized
            stack.enter_context(half_precision.half_precision())
        for replacing in (*CORRECTIONS, *OPTIMIZATIONS):
            stack.enter_context(replacing())
        yield partitioner.partitioner


def why_stock() -> str | None:
    """Why the passes do not apply to the installed ExecuTorch; None where they do."""
    version = availability().version or ""
    if not re.match(rf"{re.escape(MADE_FOR)}(\.|$)", version):
        return f"the passes of this SDK were made for ExecuTorch {MADE_FOR}, and {version} is installed"
    missing = [place for place in REPLACES if not is_there(place)]
    return f"ExecuTorch {version} has no {', '.join(missing)}" if missing else None
