"""Tokens as rows of one matrix: [..., N, C] becomes [... N, C] wherever nothing asks which row is where.

A linear, a norm over the last axis and what works element by element compute the same for each row, so a reshape around
each of them moves nothing and may be left out. A linear of a matrix is one Gemm with its bias; onnxruntime would wrap
each into two reshapes of its own, a fifth of all operators.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mobilevit_converters.onnx.file.model import shape_of
from mobilevit_converters.onnx.toolchain import import_from

BY_ELEMENT = ("Gelu", "Relu", "Sigmoid", "Erf", "Sqrt", "Neg")
OF_TWO = ("Add", "Mul", "Sub", "Div")


def tokens_as_rows(model: Any) -> None:
    """Rewrite `model`, an `onnx.ModelProto` with the shapes of its values, in place."""
    rewrite = _Rewrite(model.graph)
    for node in list(model.graph.node):
        rewrite.take(node)
    rewrite.finish()


class _Rewrite:
    """The new nodes, and the matrix that stands for each value that is one by now."""

    def __init__(self, graph: Any) -> None:
        self.helper = import_from("onnx", "onnx.helper")
        self.numpy_helper = import_from("onnx", "onnx.numpy_helper")
        self.graph = graph
        values = (*graph.input, *graph.output, *graph.value_info)
        self.shapes = {value.name: shape_of(value) for value in values}
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self.names = {node.name for node in graph.node}
        self.readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in graph.output}
        self.source = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Reshape"}
        # The exporter transposes large weights in the graph and small ones ahead of it; a Gemm reads either.
        self.transposed = {
            node.output[0]: node.input[0]
            for node in graph.node
            if node.op_type == "Transpose" and len(self.constants.get(node.input[0], ())) == 2
        }
        self.nodes: list[Any] = []
        self.rows: dict[str, str] = {}  # by the value that it stands for
        self.missing: set[str] = set()  # values that so far exist as rows only
        self.done: set[str] = set()  # outputs of nodes that were merged into the one before

    def take(self, node: Any) -> None:
        """Write a node, on rows where that is the same."""
        if node.output[0] in self.done:
            return
        if self._is_linear(node):
            self._linear(node)
        elif self._works_by_row(node):
            given = [self._as_rows(name) if self._is_tokens(name) else name for name in node.input]
            self._put(node, given, node.output[0])
        elif node.op_type == "Reshape" and node.input[0] in self.rows:
            self._copy(node, [self.rows[node.input[0]], *node.input[1:]], node.output[0])
        else:
            for name in node.input:
                self._restore(name)
            self.nodes.append(node)

    def finish(self) -> None:
        """Put the nodes into the graph, without those that nothing reads any more."""
        for name in self.outputs:
            self._restore(name)
        needed, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                kept.append(node)
                needed |= set(node.input)
        del self.graph.node[:]
        self.graph.node.extend(reversed(kept))
        made = {name for node in kept for name in node.output} - self.outputs
        for kinds, alive in ((self.graph.initializer, needed), (self.graph.value_info, made)):
            rest = [each for each in kinds if each.name in alive]
            del kinds[:]
            kinds.extend(rest)

    def _is_tokens(self, name: str) -> bool:
        return name not in self.constants and len(self.shapes.get(name, ())) > 2

    def _is_linear(self, node: Any) -> bool:
        if node.op_type != "MatMul" or not self._is_tokens(node.input[0]):
            return False
        return node.input[1] in self.transposed or len(self.constants.get(node.input[1], ())) == 2

    def _works_by_row(self, node: Any) -> bool:
        name = node.input[0]
        if node.op_type in BY_ELEMENT:
            return name in self.rows
        if node.op_type == "LayerNormalization":
            axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
            return self._is_tokens(name) and axis in (-1, len(self.shapes[name]) - 1)
        if node.op_type not in OF_TWO or not any(name in self.rows for name in node.input):
            return False
        shape = self.shapes[node.output[0]]
        return all(
            len(self.constants[name]) <= 1 if name in self.constants else self.shapes.get(name) == shape
            for name in node.input
        )

    def _linear(self, node: Any) -> None:
        """x W, and b where it is all that follows, as one Gemm."""
        followers = self.readers.get(node.output[0], [])
        weight = self.transposed.get(node.input[1], node.input[1])
        last, given = node, [self._as_rows(node.input[0]), weight]
        if len(followers) == 1 and followers[0].op_type == "Add" and node.output[0] not in self.outputs:
            biases = [name for name in followers[0].input if len(self.constants.get(name, ())) == 1]
            if biases and self.shapes.get(followers[0].output[0]) == self.shapes[node.output[0]]:
                last, given = followers[0], [*given, biases[0]]
                self.done.add(last.output[0])
        name = node.name.replace("MatMul", "Gemm")
        name = f"{name}_rows" if name in self.names else name
        gemm = self.helper.make_node("Gemm", given, [last.output[0]], name=name, transB=int(weight != node.input[1]))
        self._put(gemm, given, last.output[0])

    def _put(self, node: Any, given: list[str], value: str) -> None:
        """Write `node` on `given`, whose answer stands for `value`."""
        name = self.rows[value] = self._named(value)
        self.missing.add(value)
        self._copy(node, given, name)

    def _copy(self, node: Any, given: list[str], output: str) -> None:
        copy = type(node)()
        copy.CopyFrom(node)
        copy.input[:], copy.output[:] = given, [output]
        self.nodes.append(copy)

    def _as_rows(self, value: str) -> str:
        """The matrix that stands for a value [..., C]."""
        if value not in self.rows:
            source = self.source.get(value, value)
            self._reshape(self.rows.get(source, source), self._named(value), self._matrix(value))
            self.rows[value] = self._named(value)
        return self.rows[value]

    def _restore(self, value: str) -> None:
        if value in self.missing:
            self._reshape(self.rows[value], value, self.shapes[value])
            self.missing.discard(value)

    def _named(self, value: str) -> str:
        """Of the matrix that stands for `value`; notes its shape where it is new."""
        name = f"{value}_rows"
        if name not in self.shapes:
            self.shapes[name] = self._matrix(value)
            info = self.helper.make_tensor_value_info(name, self.types[value], self.shapes[name])
            self.graph.value_info.append(info)
        return name

    def _matrix(self, value: str) -> tuple[int, int]:
        *tokens, channels = self.shapes[value]
        return math.prod(tokens), channels

    def _reshape(self, source: str, name: str, shape: tuple[int, ...]) -> None:
        constant = "shape_" + "x".join(map(str, shape))
        if constant not in self.constants:
            self.constants[constant] = (len(shape),)
            self.graph.initializer.append(self.numpy_helper.from_array(np.array(shape, np.int64), constant))
        self.nodes.append(self.helper.make_node("Reshape", [source, constant], [name], name=f"{name}/Reshape"))
