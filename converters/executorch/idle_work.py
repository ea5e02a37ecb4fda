"""ExecuTorch's lowering without the work that changes nothing: the same program in half the time.

Most of the time goes into XNNPACK's passes. Each traces the graph anew, also where it finds nothing of what it looks
for, and two of them first export, lower and match pattern graphs of their own. Each copy of a node also copies the
whole history of nodes that it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.fx import GraphModule, Node, traceback

from converters.executorch.toolchain import import_module

Looks = Callable[[str, Node], bool]  # whether a pass looks for this operator


def _for(*parts: str) -> Looks:
    return lambda name, node: any(part in name for part in parts)


def _for_convolution_in_1d(name: str, node: Node) -> bool:
    return "convolution" in name and node.meta["val"].dim() == 3


_FOR_QUANTISED = _for("quantize")
_FOR_BATCH_NORM = _for("batch_norm")

# What each pass of ExecuTorch 1.5 begins with; one that is not named here always runs.
LOOKS_FOR: Mapping[str, Looks] = {
    "XNNPACKRemoveCloneOpsTransform": _for("clone"),
    "DimOrderOpsRevertPass": _for("dim_order"),
    "ConvertToUpsampleBilinear2d": _for("index"),
    "PropagateCustomMetaPass": _FOR_QUANTISED,
    "ConvertToSDPAPass": _for("mul.Scalar"),
    "FuseBatchNormPass": _FOR_BATCH_NORM,
    "DecomposeBatchNorm": _FOR_BATCH_NORM,
    "FuseActivationPass": _for("relu", "hardtanh"),
    "DecomposeConcatenate": _for("cat.default"),
    "RemoveGetItemPass": _for("max_pool2d", "max.dim"),
    "InsertPadQDQPass": _FOR_QUANTISED,
    "Conv1dUnsqueezePass": _for_convolution_in_1d,
    "PReLUReshapePass": _for("prelu"),
}


@contextmanager
def without_idle_work() -> Iterator[None]:
    """While it lasts, XNNPACK graphs are lowered faster; for a process that does nothing else."""
    manager = import_module("executorch.backends.xnnpack._passes").XNNPACKPassManager
    transform = manager.transform

    def transform_where_needed(self: Any) -> Any:
        program = self.exported_program
        for each in self.passes:
            if is_needed(each.__name__, program.graph_module):
                program = transform(manager(program, [each]))
        return program

    manager.transform = transform_where_needed
    history: Any = traceback.NodeSource
    history.__deepcopy__ = lambda self, memo: self  # written once, then read
    try:
        yield
    finally:
        manager.transform = transform
        del history.__deepcopy__


def is_needed(name: str, graph: GraphModule) -> bool:
    """Whether the pass `name` may find something in `graph`."""
    looks = LOOKS_FOR.get(name)
    calls = [node for node in graph.graph.nodes if node.op == "call_function"]
    return looks is None or any(looks(str(node.target), node) for node in calls)
