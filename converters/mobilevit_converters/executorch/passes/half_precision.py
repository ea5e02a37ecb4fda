"""An XNNPACK graph in float16, whose input and output stay float32.

Activations and weights become float16 in the graph that ExecuTorch is about to write, and a conversion stands at both
ends: the app gives and gets float32, and everything is still one delegate. Two kinds of operators compute in float32,
between conversions of their own. GELU does because XNNPACK has no other. What leads from a square to its `rsqrt` does,
the variance of a norm: in float16, squares are infinite from 256 on and lose their digits below 1/128, and ARM's
kernels also add them up in float16. So a norm takes whatever float16 holds, and no stream has to be scaled.

ExecuTorch 1.5 takes half tensors too, but then keeps the weights of convolutions in float32 and the input in float16.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from mobilevit_converters.executorch.passes.replacement import replaced
from mobilevit_converters.executorch.toolchain import import_module
from mobilevit_sdk.errors import ToolchainError

_VISITOR = "executorch.backends.xnnpack.operators.node_visitor"
DATATYPE = f"{_VISITOR}:NodeVisitor.get_serialized_dtype"
BUFFER = f"{_VISITOR}:NodeVisitor.get_serialized_buffer_index"
CONSTANT = f"{_VISITOR}:get_param_tensor"
SERIALIZE = "executorch.backends.xnnpack.xnnpack_preprocess:serialize_xnnpack_binary"
REPLACES = (DATATYPE, BUFFER, CONSTANT, SERIALIZE)

MAX_STEPS = 8  # from an rsqrt back to its square: a mean and changes of layout
ONLY_FLOAT32 = "XNNGelu"
PRODUCTS = ("aten.linear.default", "aten.convolution.default", "aten.addmm.default")


@contextmanager
def half_precision() -> Iterator[None]:
    """Within the context, float32 graphs are lowered to XNNPACK in float16. For graphs without integers."""
    datatypes = _schema().XNNDatatype
    single_precision = lru_cache(maxsize=1)(variance_nodes)  # the graph is complete when its values are written

    def in_single(node: Node) -> bool:
        return node in single_precision(node.graph)

    def datatype(original: Any) -> Any:
        def of_value(self: Any, quant_params: Any, node: Node, force_fp32: bool = False) -> Any:
            chosen = original(self, quant_params, node, force_fp32)
            at_border = self.is_graph_input(node) or self.is_graph_output(node)
            is_half = chosen == datatypes.xnn_datatype_fp32 and not at_border and not in_single(node)
            return datatypes.xnn_datatype_fp16 if is_half else chosen

        return of_value

    def buffer(original: Any) -> Any:
        def index(self: Any, node: Node, *given: Any) -> Any:
            graph, ids, nhwc, swapped, quant_params, _, groups = given  # `_` is whether to keep float32
            return original(self, node, graph, ids, nhwc, swapped, quant_params, False, groups)

        return index

    def constant(original: Any) -> Any:
        def values(program: Any, node: Node) -> Tensor:
            exact: Tensor = original(program, node)
            return exact if exact.dtype != torch.float32 or in_single(node) else in_half(exact, node.name)

        return values

    def serialize(original: Any) -> Any:
        def convert_and_serialize(graph: Any, constants: bytearray) -> bytes:
            insert_conversions(graph)
            return bytes(original(graph, constants))

        return convert_and_serialize

    with ExitStack() as stack:
        for place, wrap in ((DATATYPE, datatype), (BUFFER, buffer), (CONSTANT, constant), (SERIALIZE, serialize)):
            stack.enter_context(replaced(place, wrap))
        yield


def in_half(values: Tensor, name: str) -> Tensor:
    """`values` in float16. Raises ToolchainError where that is infinite and they are not."""
    rounded = values.half()
    if not torch.equal(rounded.isfinite(), values.isfinite()):
        raise ToolchainError(f"fp16 ends at 65504, and {name} reaches {float(values.abs().max()):.4g}; use fp32")
    return rounded


def variance_nodes(graph: Graph) -> frozenset[Node]:
    """What leads from a square to an `rsqrt` in a graph that ExecuTorch lowers, both included, with added biases."""
    found: set[Node] = set()
    for node in graph.nodes:
        if _name(node) == "aten.rsqrt.default":
            steps = _back_to_square(node)
            found.update(steps)
            found.update(step.args[2] for step in steps if _name(step) in PRODUCTS and isinstance(step.args[2], Node))
    return frozenset(found)


def _back_to_square(node: Node) -> list[Node]:
    """The calls from `node` back to the square that it reads; empty if there is none near."""
    steps: list[Node] = []
    value: Any = node
    while isinstance(value, Node) and value.op == "call_function" and len(steps) < MAX_STEPS:
        steps.append(value)
        if _name(value) == "aten.mul.Tensor":
            return steps if value.args[0] is value.args[1] else []
        value = value.args[0]
    return []


def _name(node: Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def insert_conversions(graph: Any) -> None:
    """Give each operator of an `XNNGraph` its operands and its answer in the type that it computes in, in place."""
    schema, none = _schema(), import_module("executorch.backends.xnnpack.utils.xnnpack_constants").XNN_INVALID_VALUE_ID
    single, half = schema.XNNDatatype.xnn_datatype_fp32, schema.XNNDatatype.xnn_datatype_fp16
    values = {value.xvalue_union.id_out: value.xvalue_union for value in graph.xvalues}
    converted: dict[tuple[int, Any], int] = {}  # a value and another type -> the same in that type
    nodes: list[Any] = []

    def in_type(number: int, datatype: Any) -> int:
        """The id of a value of `datatype` that stands for another."""
        fresh = max(values) + 1
        values[fresh] = dataclasses.replace(
            values[number], datatype=datatype, id_out=fresh, external_id=none, constant_buffer_idx=0, flags=0
        )
        graph.xvalues.append(schema.XValue(xvalue_union=values[fresh]))
        converted[number, datatype] = fresh
        return fresh

    def convert(source: int, answer: int, handle: int) -> None:
        conversion = schema.XNNConvert(input_id=source, output_id=answer, flags=0)
        nodes.append(schema.XNode(xnode_union=conversion, debug_handle=handle))

    for node in graph.xnodes:
        operator = node.xnode_union
        answer = values[operator.output_id]
        is_inside = answer.external_id == none
        in_single = type(operator).__name__ == ONLY_FLOAT32 or (answer.datatype == single and is_inside)
        datatype = single if in_single else half
        for name in _operands(operator):
            number = getattr(operator, name)
            if number in values and values[number].datatype != datatype:
                if (number, datatype) not in converted:
                    convert(number, in_type(number, datatype), node.debug_handle)
                setattr(operator, name, converted[number, datatype])
        nodes.append(node)
        if answer.datatype != datatype:
            operator.output_id = in_type(answer.id_out, datatype)
            convert(operator.output_id, answer.id_out, node.debug_handle)
    graph.xnodes = nodes


def _operands(operator: Any) -> list[str]:
    """The fields of an operator that name what it reads; weights and biases, which XNNPACK packs, are left out."""
    names = [field.name for field in dataclasses.fields(operator)]
    return [name for name in names if name.startswith("input") and name.endswith("_id")]


def _schema() -> Any:
    return import_module("executorch.backends.xnnpack.serialization.xnnpack_graph_schema")
