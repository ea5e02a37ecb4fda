"""A range of its own for each kind of reader of a value that is quantized at run time.

XNNPACK computes 1x1 convolutions as linears, with a range for each pixel, and then reads the same ranges for another
convolution of that value, which wants one range for the whole map: silently wrong. Here those two never share.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mobilevit_converters.executorch.passes.replacement import replaced

SERIALIZE = "executorch.backends.xnnpack.xnnpack_preprocess:serialize_xnnpack_binary"
REPLACES = (SERIALIZE,)


@contextmanager
def separate_ranges() -> Iterator[None]:
    """Within the context, XNNPACK graphs are corrected before they are serialized."""

    def corrected(serialize: Any) -> Any:
        def separate_and_serialize(graph: Any, constants: bytearray) -> bytes:
            separate(graph)
            return bytes(serialize(graph, constants))

        return separate_and_serialize

    with replaced(SERIALIZE, corrected):
        yield


def separate(graph: Any) -> None:
    """Give each kind of reader in an `XNNGraph` a quantized copy of its own of what they share, in place."""
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
