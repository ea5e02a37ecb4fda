"""Products whose input is quantized at run time: in the right layout, and with a range of their own.

For a value in another order in memory than a convolution wants, ExecuTorch 1.5 goes back along the first arguments to
the very start of the graph and turns what it finds there; before a linear it turns the value behind its range, which
XNNPACK then does not take. Here the value itself is turned, before its range is taken.
XNNPACK computes 1x1 convolutions as linears, with a range for each pixel, and then reads the same ranges for another
convolution of that value, which wants one of the whole map: wrong without a word. Here those two never share.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.fx import GraphModule, Node

from mobilevit_converters.executorch.toolchain import import_module


@contextmanager
def dynamic_input_layout() -> Iterator[None]:
    """While it lasts, values are turned where they are quantized; for a process that does nothing else."""
    layouts = import_module("executorch.backends.xnnpack._passes.channels_last_tagged_reshape_pass")
    each = layouts.ChannelsLastTaggedReshapePass
    to_nhwc, to_nchw = each.input_to_nhwc, each.input_to_nchw

    def turned(turn: Any, is_turned: Any, mark: Any) -> Any:
        def turn_before_its_range(self: Any, module: GraphModule, value: Node, reader: Node) -> None:
            if not layouts.is_dynamic_qdq(value):
                turn(self, module, value, reader)
            elif not is_turned(value):
                quantize: Any = value.args[0]
                source, scale = quantize.args[:2]
                range_ = scale.args[0]
                turn(self, module, source, range_)
                turn(self, module, source, quantize)
                mark(quantize)
                mark(value)

        return turn_before_its_range

    each.input_to_nhwc = turned(to_nhwc, each.is_nhwc_node, each.mark_as_nhwc_node)
    each.input_to_nchw = turned(to_nchw, each.is_nchw_node, each.mark_as_nchw_node)
    try:
        yield
    finally:
        each.input_to_nhwc, each.input_to_nchw = to_nhwc, to_nchw


def separate_ranges(graph: Any) -> None:
    """Let readers of different kinds in an `XNNGraph` quantize what they share each for itself, in place."""
    values = {getattr(value.xvalue_union, "tensor_value", value.xvalue_union).id_out: value for value in graph.xvalues}
    conversions = {node.xnode_union.output_id: node for node in graph.xnodes if _is_dynamic(node.xnode_union, values)}
    made: dict[tuple[int, str], int] = {}  # a value and a kind of readers -> the value that those read
    nodes: list[Any] = []
    for node in graph.xnodes:
        reader = node.xnode_union
        shared: int = getattr(reader, "input1_id", -1)
        if shared in conversions:
            kinds = [kind for number, kind in made if number == shared]
            if _kind(reader) not in kinds:
                made[shared, _kind(reader)] = _again(graph, nodes, conversions[shared], values) if kinds else shared
            reader.input1_id = made[shared, _kind(reader)]
        nodes.append(node)
    graph.xnodes = nodes


def _is_dynamic(operator: Any, values: dict[int, Any]) -> bool:
    if type(operator).__name__ != "XNNConvert":
        return False
    parameters = getattr(values[operator.output_id].xvalue_union, "quant_params", None)
    return type(parameters).__name__ == "PerTokenDynamicQuant"


def _kind(reader: Any) -> str:
    pointwise = getattr(reader, "kernel_height", 0) == getattr(reader, "kernel_width", 0) == 1
    return f"{type(reader).__name__} {'of pixels' if pointwise else ''}"


def _again(graph: Any, nodes: list[Any], conversion: Any, values: dict[int, Any]) -> int:
    """The same conversion once more, into a new value; its id."""
    number = max(values) + 1
    value = copy.deepcopy(values[conversion.xnode_union.output_id])
    value.xvalue_union.tensor_value.id_out = number
    values[number] = value
    graph.xvalues.append(value)
    nodes.append(copy.deepcopy(conversion))
    nodes[-1].xnode_union.output_id = number
    return number
