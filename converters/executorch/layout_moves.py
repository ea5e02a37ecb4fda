"""Fewer moves of data within an XNNPACK graph.

Convolutions of XNNPACK want channels last, everything else keeps PyTorch's order, and ExecuTorch 1.5 moves the data
each time that a value passes from one to the other: a `permute` behind a convolution becomes two transposes that undo
each other. Merged here, in the graph that ExecuTorch is about to write: a transpose of a transpose is one transpose, a
reshape of a reshape is one reshape, what moves nothing is no operator, and the same move of the same value is made
once. Values are moved, never computed, so every answer stays the same bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from converters.executorch.toolchain import import_module

_TRANSPOSE, _RESHAPE = "XNNStaticTranspose", "XNNStaticReshape"


@contextmanager
def fewer_layout_moves() -> Iterator[None]:
    """While it lasts, XNNPACK graphs are simplified before they are written; for a process that does nothing else."""
    preprocess = import_module("executorch.backends.xnnpack.xnnpack_preprocess")
    serialize = preprocess.serialize_xnnpack_binary

    def simplify_and_serialize(graph: Any, constants: bytearray) -> bytes:
        simplify(graph)
        return bytes(serialize(graph, constants))

    preprocess.serialize_xnnpack_binary = simplify_and_serialize
    try:
        yield
    finally:
        preprocess.serialize_xnnpack_binary = serialize


def simplify(graph: Any) -> None:
    """Merge and drop transposes and reshapes of an `XNNGraph` in place. Its nodes must be in the order of execution."""
    values = {value.xvalue_union.id_out: value.xvalue_union for value in graph.xvalues if _is_plain(value.xvalue_union)}
    producers: dict[int, Any] = {}  # id of a value -> the move that makes it
    same: dict[int, int] = {}  # id of a value -> that of an equal one
    made: dict[tuple[Any, ...], int] = {}  # a move -> the value that it made
    for node in graph.xnodes:
        move = node.xnode_union
        for name in _inputs(move):
            setattr(move, name, same.get(getattr(move, name), getattr(move, name)))
        kind = type(move).__name__
        if kind not in (_TRANSPOSE, _RESHAPE) or not {move.input_id, move.output_id} <= values.keys():
            continue
        before = producers.get(move.input_id)
        if before is not None and type(before) is type(move):
            move.input_id = before.input_id
            if kind == _TRANSPOSE:
                move.perm = [before.perm[axis] for axis in move.perm]
        given = values[move.input_id].dims
        moves_nothing = move.perm == sorted(move.perm) if kind == _TRANSPOSE else list(move.new_shape) == list(given)
        key = (kind, move.input_id, *(move.perm if kind == _TRANSPOSE else move.new_shape))
        equal = move.input_id if moves_nothing else made.get(key)
        if equal is not None and move.output_id not in graph.output_ids:
            same[move.output_id] = equal
            continue
        made.setdefault(key, move.output_id)
        producers[move.output_id] = move
    _drop_unused(graph)


def _drop_unused(graph: Any) -> None:
    """Leave the moves whose value is read, and the values that a node reads or writes."""
    used = set(graph.output_ids)
    kept = []
    for node in reversed(graph.xnodes):
        operator = node.xnode_union
        if type(operator).__name__ in (_TRANSPOSE, _RESHAPE) and operator.output_id not in used:
            continue
        used.update(getattr(operator, name) for name in _inputs(operator))
        kept.append(node)
    graph.xnodes = kept[::-1]
    written = {getattr(node.xnode_union, name) for node in graph.xnodes for name in _ids(node.xnode_union)}
    borders = {*graph.input_ids, *graph.output_ids}
    graph.xvalues = [value for value in graph.xvalues if _id(value.xvalue_union) in written | borders]


def _is_plain(value: Any) -> bool:
    """Not quantised: equal values may still differ in scale."""
    return hasattr(value, "dims")


def _id(value: Any) -> int:
    return int((value if _is_plain(value) else value.tensor_value).id_out)


def _ids(operator: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(operator) if field.name.endswith("_id")]


def _inputs(operator: Any) -> list[str]:
    return [name for name in _ids(operator) if not name.startswith("output")]
