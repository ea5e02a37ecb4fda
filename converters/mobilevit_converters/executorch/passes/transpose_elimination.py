"""Fewer data movements within an XNNPACK graph.

XNNPACK's convolutions want channels last, everything else keeps PyTorch's order, and ExecuTorch 1.5 moves the data
each time that a value passes from one to the other: a `permute` behind a convolution becomes two transposes that undo
each other. They are merged here, in the graph that ExecuTorch is about to write: a transpose of a transpose becomes
one transpose, a reshape of a reshape one reshape, and an operator that moves nothing disappears; the same move of the
same value is made once, as is the same conversion between float and int8. Every answer stays the same bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mobilevit_converters.executorch.passes.replacement import replaced

SERIALIZE = "executorch.backends.xnnpack.xnnpack_preprocess:serialize_xnnpack_binary"
REPLACES = (SERIALIZE,)

_TRANSPOSE, _RESHAPE, _CONVERT = "XNNStaticTranspose", "XNNStaticReshape", "XNNConvert"
_MOVES = (_TRANSPOSE, _RESHAPE, _CONVERT)


@contextmanager
def eliminate_transposes() -> Iterator[None]:
    """Within the context, XNNPACK graphs are simplified before they are serialized."""

    def simplified(serialize: Any) -> Any:
        def simplify_and_serialize(graph: Any, constants: bytearray) -> bytes:
            simplify(graph)
            return bytes(serialize(graph, constants))

        return simplify_and_serialize

    with replaced(SERIALIZE, simplified):
        yield


def simplify(graph: Any) -> None:
    """Merge and drop transposes, reshapes and conversions of an `XNNGraph` in place.

    Its nodes must be in the order of execution.
    """
    values = {_tensor(value.xvalue_union).id_out: value.xvalue_union for value in graph.xvalues}
    producers: dict[int, Any] = {}  # id of a value -> the move that makes it
    same: dict[int, int] = {}  # id of a value -> that of an equal one
    made: dict[tuple[Any, ...], int] = {}  # a move and the type that it makes -> the value that it made
    for node in graph.xnodes:
        for name in _inputs(node.xnode_union):
            number = getattr(node.xnode_union, name)
            setattr(node.xnode_union, name, same.get(number, number))
        if type(node.xnode_union).__name__ == _CONVERT:
            node.xnode_union = _in_int8(node.xnode_union, producers, values)
        move = node.xnode_union
        kind = type(move).__name__
        if kind not in _MOVES:
            continue
        answer = values[move.output_id]
        before: Any = producers.get(move.input_id)
        if kind != _CONVERT:
            if _type(values[move.input_id]) != _type(answer):  # it also changes the scale
                continue
            if type(before) is type(move):
                move.input_id = before.input_id
                if kind == _TRANSPOSE:
                    move.perm = [before.perm[axis] for axis in move.perm]
        key = (kind, move.input_id, _parameters(move), _type(answer))
        equal = made.get(key, _undone(move, producers, values))
        if equal is not None and move.output_id not in graph.output_ids:
            same[move.output_id] = equal
            continue
        made.setdefault(key, move.output_id)
        producers[move.output_id] = move
    _drop_unused(graph)


def _in_int8(crossing: Any, producers: dict[int, Any], values: dict[int, Any]) -> Any:
    """For a conversion to int8 of what was int8 before it was moved as float: the same move of the int8 value."""
    moved = producers.get(crossing.input_id)
    if moved is None or type(moved) is type(crossing):
        return crossing
    back: Any = producers.get(moved.input_id)
    if _is_way_back(crossing, back, values):
        return dataclasses.replace(moved, input_id=back.input_id, output_id=crossing.output_id)
    return crossing


def _undone(move: Any, producers: dict[int, Any], values: dict[int, Any]) -> int | None:
    """The id of the value that a move leaves unchanged, or restores."""
    kind = type(move).__name__
    if kind == _CONVERT:
        before: Any = producers.get(move.input_id)
        return int(before.input_id) if _is_way_back(move, before, values) else None
    nothing = sorted(move.perm) if kind == _TRANSPOSE else _tensor(values[move.input_id]).dims
    return int(move.input_id) if _parameters(move) == tuple(nothing) else None


def _is_way_back(crossing: Any, before: Any, values: dict[int, Any]) -> bool:
    """Whether `before` and `crossing` lead from int8 to float and back to the same int8, which changes no number."""
    if type(before) is not type(crossing) or not hasattr(values[crossing.output_id], "quant_params"):
        return False
    return _type(values[before.input_id]) == _type(values[crossing.output_id])


def _parameters(move: Any) -> tuple[int, ...]:
    return tuple(getattr(move, "perm", getattr(move, "new_shape", ())))


def _drop_unused(graph: Any) -> None:
    """Leave the moves whose value is read, and the values that a node reads or writes."""
    used = set(graph.output_ids)
    kept = []
    for node in reversed(graph.xnodes):
        operator = node.xnode_union
        if type(operator).__name__ in _MOVES and operator.output_id not in used:
            continue
        used.update(getattr(operator, name) for name in _inputs(operator))
        kept.append(node)
    graph.xnodes = kept[::-1]
    written = {getattr(node.xnode_union, name) for node in graph.xnodes for name in _ids(node.xnode_union)}
    borders = {*graph.input_ids, *graph.output_ids}
    graph.xvalues = [value for value in graph.xvalues if _tensor(value.xvalue_union).id_out in written | borders]


def _tensor(value: Any) -> Any:
    """The plain tensor of a value; a quantized one wraps it."""
    return getattr(value, "tensor_value", value)


def _type(value: Any) -> tuple[Any, ...]:
    """What two values of the same numbers must have in common to be one."""
    parameters = getattr(value, "quant_params", None)
    return (_tensor(value).datatype, None if parameters is None else repr(parameters))


def _ids(operator: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(operator) if field.name.endswith("_id")]


def _inputs(operator: Any) -> list[str]:
    return [name for name in _ids(operator) if not name.startswith("output")]
