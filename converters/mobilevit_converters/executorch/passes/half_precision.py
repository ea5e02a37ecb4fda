"""An XNNPACK graph in float16, whose input and output stay float32.

Activations and weights become float16 in the graph that ExecuTorch is about to write. The app gives and gets float32,
and everything is still one delegate. Some operators compute in float32, between conversions:

- GELU, because XNNPACK has no other.
- The variance of a norm, from a square to its `rsqrt`: in float16, squares are infinite from 256 on and lose their
  digits below 1/128. So a norm takes whatever float16 holds, and no stream has to be scaled.
- The last product, and all up to the last convolution of a map with an eighth of the image's side. Kernels for ARM and
  for AVX512-FP16 also add up in float16. On flat and on periodic images all positions of a large map then err alike:
  without this, MobileViT-XXS is at 32 dB on a checkerboard and MobileViTv2-050 at 39 dB on black.
- A convolution of windows that adds up 1024 products or more, and a product of attention over as many tokens, for the
  same reason: MobileViT-S is at 36 dB on white without the one, and at 47 dB with it; TinyViT-21M at 512 pixels is at
  38 dB without the other, and at 50 dB with it.

ExecuTorch 1.5 takes half tensors too, but then keeps the weights of convolutions in float32 and the input in float16.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from mobilevit_converters.executorch.passes import partitioner
from mobilevit_converters.executorch.passes.replacement import replaced
from mobilevit_converters.executorch.toolchain import import_module
from mobilevit_sdk.errors import ToolchainError

_VISITOR = "executorch.backends.xnnpack.operators.node_visitor"
DATATYPE = f"{_VISITOR}:NodeVisitor.get_serialized_dtype"
BUFFER = f"{_VISITOR}:NodeVisitor.get_serialized_buffer_index"
CONSTANT = f"{_VISITOR}:get_param_tensor"
SERIALIZE = "executorch.backends.xnnpack.xnnpack_preprocess:serialize_xnnpack_binary"
EMIT = "executorch.exir.program:EdgeProgramManager.to_executorch"
REPLACES = (DATATYPE, BUFFER, CONSTANT, SERIALIZE, EMIT)

MAX_STEPS = 8  # from an rsqrt back to its square: a mean and changes of layout
LARGE_MAP = 8  # from which share of the image's side on a map is computed in float32
LONG_SUM = 1024  # products, from which on windows and attention are added up in float32
ONLY_FLOAT32 = "XNNGelu"
CONVOLUTION, LINEAR, PRODUCT = "aten.convolution.default", "aten.linear.default", "aten.bmm.default"


@contextmanager
def half_precision() -> Iterator[None]:
    """Within the context, float32 graphs are lowered to XNNPACK in float16. For graphs without integers."""
    datatypes = _schema().XNNDatatype
    given: set[str] = set()  # the names of the constants that the delegate is given in float16, while it is written
    of_delegates: dict[bytes, frozenset[str]] = {}  # ... and those of each that was written
    single_precision = lru_cache(maxsize=1)(in_float32)  # the graph is complete when its values are written

    def in_single(node: Node) -> bool:
        return node in single_precision(node.graph)

    def datatype(original: Any) -> Any:
        def of_value(self: Any, quant_params: Any, node: Node, force_fp32: bool = False) -> Any:
            chosen = original(self, quant_params, node, force_fp32)
            is_input, is_constant = self.is_graph_input(node), partitioner.CONSTANT in node.meta
            at_border = (is_input and not (is_constant and _may_be_given_in_half(node))) or self.is_graph_output(node)
            is_half = chosen == datatypes.xnn_datatype_fp32 and not at_border and not in_single(node)
            if is_half and is_input:
                given.add(node.name)
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
            written = bytes(original(graph, constants))
            of_delegates[written] = of_delegates.get(written, frozenset()) | given
            given.clear()
            return written

        return convert_and_serialize

    def emit(original: Any) -> Any:
        def to_executorch(self: Any, *arguments: Any, **options: Any) -> Any:
            for method in sorted(self.methods):
                program = self.exported_program(method)
                delegates = [child for _, child in program.graph_module.named_children()]
                written = [getattr(child, "processed_bytes", b"") for child in delegates]
                store_in_half(program, {name for each in written for name in of_delegates.get(each, ())})
            return original(self, *arguments, **options)

        return to_executorch

    wraps = (datatype, buffer, constant, serialize, emit)
    with ExitStack() as stack:
        for place, wrap in zip(REPLACES, wraps, strict=True):
            stack.enter_context(replaced(place, wrap))
        yield


def store_in_half(program: ExportedProgram, names: Collection[str]) -> None:
    """Store the constants that a delegate of `program` is given under these names in float16."""
    signature = program.graph_signature
    sources = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    sources.update(signature.inputs_to_lifted_tensor_constants)
    nodes = {node.name: node for node in program.graph.find_nodes(op="placeholder") if node.name in sources}
    for name in names:
        key, node = sources[name], nodes[name]
        tensors = program.state_dict if key in program.state_dict else program.constants
        tensors[key] = in_half(tensors[key].detach(), key)
        node.meta["val"] = node.meta["val"].half()


def in_half(values: Tensor, name: str) -> Tensor:
    """`values` in float16. Raises ToolchainError where that is infinite and they are not."""
    rounded = values.half()
    if not torch.equal(rounded.isfinite(), values.isfinite()):
        raise ToolchainError(f"fp16 ends at 65504, and {name} reaches {float(values.abs().max()):.4g}; use fp32")
    return rounded


def in_float32(graph: Graph) -> frozenset[Node]:
    """What stays in float32 of a graph that ExecuTorch lowers: calls, and the biases that they add."""
    calls = {step for node in graph.nodes if _name(node) == "aten.rsqrt.default" for step in _back_to_square(node)}
    calls.update(_high_resolution(graph))
    calls.update(node for node in graph.nodes if _sums_up_many(node))
    calls.update(node for node in graph.nodes if any(user.op == "output" for user in node.users))
    biases = [call.args[2] for call in calls if _name(call) in (CONVOLUTION, LINEAR) and len(call.args) > 2]
    return frozenset(calls.union(bias for bias in biases if isinstance(bias, Node)))


def _may_be_given_in_half(constant: Node) -> bool:
    """Unlike a sum, a product of tensors in two types is refused when ExecuTorch traces the delegate's graph again."""
    return all(_name(user) != PRODUCT for user in constant.users)


def _high_resolution(graph: Graph) -> list[Node]:
    """The calls up to the last convolution of a large map, in the order of execution."""
    calls = [node for node in graph.nodes if node.op == "call_function"]
    convolutions = [(i, call.meta["val"].shape) for i, call in enumerate(calls) if _name(call) == CONVOLUTION]
    image: Any = calls[0].args[0].meta["val"].shape if convolutions else None
    large = [i for i, shape in convolutions if LARGE_MAP * shape[2] >= image[2]]
    return calls[: large[-1] + 1] if large else []


def _sums_up_many(call: Node) -> bool:
    if _name(call) == PRODUCT:
        left: Any = call.args[0]
        return bool(left.meta["val"].shape[-1] >= LONG_SUM)
    if _name(call) != CONVOLUTION:
        return False
    weight: Any = call.args[1]
    _, channels, *window = weight.meta["val"].shape
    return prod(window) > 1 and channels * prod(window) >= LONG_SUM


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
    single = schema.XNNDatatype.xnn_datatype_fp32
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
        datatype = single if type(operator).__name__ == ONLY_FLOAT32 else answer.datatype
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
