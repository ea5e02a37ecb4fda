"""ExecuTorch's lowering without the passes that would change nothing: the same program in a third to half of the time.

Most of the time goes into passes. Each traces the graph again, even where it finds nothing to change, and two of
XNNPACK's first export, lower and match pattern graphs of their own. The graph is also decomposed three times, though
once is enough for a graph without side effects and without operators left to decompose. Each copy of a node also
copies the whole history of nodes that it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from operator import getitem
from typing import Any

import torch
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.passes.infra.pass_base import PassResult

from mobilevit_converters.executorch.passes.replacement import replaced

Looks = Callable[[str, Node], bool]  # whether a pass would change this operator


def _for(*parts: str) -> Looks:
    return lambda name, node: any(part in name for part in parts)


def _for_convolution_in_1d(name: str, node: Node) -> bool:
    return "convolution" in name and node.meta["val"].dim() == 3


def _for_view(name: str, node: Node) -> bool:
    return getattr(node.target, "is_view", False)


def _for_number_as_tensor(name: str, node: Node) -> bool:
    """A number where the operator takes a tensor."""
    schema = node.target._schema.arguments if isinstance(node.target, OpOverload) else ()
    given = dict(zip((each.name for each in schema), node.args, strict=False)) | node.kwargs
    tensors = (given.get(each.name) for each in schema if isinstance(each.type, torch.TensorType))
    return any(isinstance(each, int | float) for each in tensors)


def _for_symbol(name: str, node: Node) -> bool:
    return isinstance(node.meta["val"], torch.SymInt | torch.SymFloat | torch.SymBool)


def _for_another_type(name: str, node: Node) -> bool:
    return any(getattr(each.meta["val"], "dtype", None) is not torch.float32 for each in node.all_input_nodes)


_FOR_QUANTIZED = _for("quantize")
_FOR_BATCH_NORM = _for("batch_norm")

# The operators that each pass of ExecuTorch 1.5 starts from; a pass that is not named here always runs.
LOOKS_FOR: Mapping[str, Looks] = {
    "NormalizeTransposePass": _for("aten.t.default"),
    "ReplaceBrokenOpsWithFunctionalOpsPass": _for_view,
    "ScalarToTensorPass": _for_number_as_tensor,
    "SymToTensorPass": _for_symbol,
    "RemoveMixedTypeOperators": _for_another_type,
    "LegalizePortableDimOrderPass": _for("avg_pool2d", "expand", "mean", "sum"),
    "XNNPACKRemoveCloneOpsTransform": _for("clone"),
    "DimOrderOpsRevertPass": _for("dim_order"),
    "ConvertToUpsampleBilinear2d": _for("index"),
    "PropagateCustomMetaPass": _FOR_QUANTIZED,
    "ConvertToSDPAPass": _for("mul.Scalar"),
    "FuseBatchNormPass": _FOR_BATCH_NORM,
    "DecomposeBatchNorm": _FOR_BATCH_NORM,
    "FuseActivationPass": _for("relu", "hardtanh"),
    "DecomposeConcatenate": _for("cat.default"),
    "RemoveGetItemPass": _for("max_pool2d", "max.dim"),
    "InsertPadQDQPass": _FOR_QUANTIZED,
    "Conv1dUnsqueezePass": _for_convolution_in_1d,
    "PReLUReshapePass": _for("prelu"),
}


TRANSFORM = "executorch.backends.xnnpack._passes:XNNPACKPassManager.transform"
CALL = "executorch.exir.pass_base:ExportPass.__call__"
REPLACES = (TRANSFORM, CALL)
_DECOMPOSE = "torch.export:ExportedProgram.run_decompositions"
_COPY_NODE_SOURCE = "torch.fx.traceback:NodeSource.__deepcopy__"


@contextmanager
def fast_lowering() -> Iterator[None]:
    """Within the context, graphs are lowered to XNNPACK faster."""
    with (
        replaced(TRANSFORM, _transform_where_needed),
        replaced(CALL, _call_where_needed),
        replaced(_DECOMPOSE, _decompose_where_needed),
        replaced(_COPY_NODE_SOURCE, lambda _: lambda self, memo: self),  # written once, then only read
    ):
        yield


def is_needed(name: str, graph: GraphModule) -> bool:
    """Whether the pass `name` may find something in `graph`."""
    looks = LOOKS_FOR.get(name)
    return looks is None or any(looks(str(node.target), node) for node in _calls(graph))


def is_decomposed(graph: GraphModule, table: Container[Any]) -> bool:
    """Whether decomposing `graph` by `table` leaves it as it is: it has no side effects and nothing from the table."""
    return all(
        isinstance(node.target, OpOverload) and not node.target._schema.is_mutable and node.target not in table
        for node in _calls(graph)
        if node.target is not getitem  # which picks one result of an operator that has several
    )


def _calls(graph: GraphModule) -> Iterator[Node]:
    return (node for node in graph.graph.nodes if node.op == "call_function")


def _transform_where_needed(transform: Any) -> Any:
    def transform_where_needed(self: Any) -> Any:
        program = self.exported_program
        for each in self.passes:
            if is_needed(each.__name__, program.graph_module):
                program = transform(type(self)(program, [each]))
        return program

    return transform_where_needed


def _call_where_needed(call: Any) -> Any:
    def call_where_needed(self: Any, graph: GraphModule) -> Any:
        return call(self, graph) if is_needed(type(self).__name__, graph) else PassResult(graph, False)

    return call_where_needed


def _decompose_where_needed(decompose: Any) -> Any:
    def decompose_where_needed(self: ExportedProgram, decomp_table: Any = None, **options: Any) -> ExportedProgram:
        known = decomp_table is not None and is_decomposed(self.graph_module, decomp_table)
        return self if known else decompose(self, decomp_table, **options)

    return decompose_where_needed
