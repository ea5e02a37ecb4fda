"""Merging transposes and reshapes of an XNNPACK graph leaves every value as it was."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

schema = pytest.importorskip("executorch.backends.xnnpack.serialization.xnnpack_graph_schema")

from mobilevit_converters.executorch.passes.transpose_elimination import eliminate_transposes, simplify  # noqa: E402


class Graph:
    """Builds an XNNGraph of one input; the methods add a node and answer the id of its value."""

    def __init__(self, *dims: int) -> None:
        self.graph = schema.XNNGraph("0", [], [], 1, [0], [], [])
        self.value(dims)

    def value(self, dims: tuple[int, ...]) -> int:
        number = len(self.graph.xvalues)
        tensor = schema.XNNTensorValue(schema.XNNDatatype.xnn_datatype_fp32, len(dims), list(dims), 0, -1, 0, number)
        self.graph.xvalues.append(schema.XValue(tensor))
        return number

    def add(self, operator: Any) -> int:
        self.graph.xnodes.append(schema.XNode(operator, 0))
        return operator.output_id

    def dims(self, value: int) -> list[int]:
        return self.graph.xvalues[value].xvalue_union.dims

    def transpose(self, value: int, *perm: int) -> int:
        out = self.value(tuple(self.dims(value)[axis] for axis in perm))
        return self.add(schema.XNNStaticTranspose(len(perm), list(perm), value, out, 0))

    def reshape(self, value: int, *shape: int) -> int:
        return self.add(schema.XNNStaticReshape(len(shape), list(shape), value, self.value(shape), 0))

    def sigmoid(self, value: int) -> int:
        return self.add(schema.XNNSigmoid(value, self.value(tuple(self.dims(value))), 0))

    def total(self, left: int, right: int) -> int:
        return self.add(schema.XNNAdd(left, right, self.value(tuple(self.dims(left))), 0))


def run(graph: Any) -> list[np.ndarray]:
    """The graph's outputs for one image of distinct numbers, by NumPy."""
    dims = {value.xvalue_union.id_out: value.xvalue_union.dims for value in graph.xvalues}
    values = {0: np.arange(1.0, 1 + np.prod(dims[0])).reshape(dims[0])}
    for node in graph.xnodes:
        operator = node.xnode_union
        match type(operator).__name__:
            case "XNNStaticTranspose":
                answer = values[operator.input_id].transpose(operator.perm)
            case "XNNStaticReshape":
                answer = values[operator.input_id].reshape(operator.new_shape)
            case "XNNSigmoid":
                answer = 1 / (1 + values[operator.input_id])
            case "XNNAdd":
                answer = values[operator.input1_id] + values[operator.input2_id]
        assert list(answer.shape) == dims[operator.output_id]
        values[operator.output_id] = answer
    return [values[number] for number in graph.output_ids]


def kinds(graph: Any) -> dict[str, int]:
    return dict(Counter(type(node.xnode_union).__name__ for node in graph.xnodes))


@settings(max_examples=4 * settings().max_examples)
@given(data=st.data())
def test_every_output_stays_bit_for_bit(data):
    built = Graph(2, 1, 3, 2)
    for _ in range(data.draw(st.integers(0, 12))):
        value = data.draw(st.integers(0, len(built.graph.xvalues) - 1))
        rank = len(built.dims(value))
        match data.draw(st.sampled_from(["transpose", "reshape", "sigmoid", "total"])):
            case "transpose":
                built.transpose(value, *data.draw(st.permutations(range(rank))))
            case "reshape":
                built.reshape(
                    value, *data.draw(st.sampled_from([(2, 1, 3, 2), (12,), (4, 3), (1, 2, 6), (2, 3, 1, 2)]))
                )
            case "sigmoid":
                built.sigmoid(value)
            case "total":
                built.total(value, value)
    numbers = st.integers(0, len(built.graph.xvalues) - 1)
    built.graph.output_ids = data.draw(st.lists(numbers, min_size=1, max_size=3, unique=True))
    before = copy.deepcopy(built.graph)
    simplify(built.graph)
    for found, expected in zip(run(built.graph), run(before), strict=True):
        assert np.array_equal(found, expected)
    assert len(built.graph.xnodes) <= len(before.xnodes)
    again = copy.deepcopy(built.graph)
    simplify(again)
    assert kinds(again) == kinds(built.graph)


def test_transposes_that_undo_each_other_are_gone():
    built = Graph(1, 4, 5, 3)
    map_ = built.sigmoid(0)
    tokens = built.reshape(built.transpose(built.transpose(map_, 0, 3, 1, 2), 0, 2, 3, 1), 20, 3)
    built.graph.output_ids = [built.sigmoid(tokens)]
    simplify(built.graph)
    assert kinds(built.graph) == {"XNNSigmoid": 2, "XNNStaticReshape": 1}
    assert built.graph.xnodes[1].xnode_union.input_id == map_
    assert len(built.graph.xvalues) == 4


def test_the_same_move_of_the_same_value_is_made_once():
    built = Graph(2, 3)
    built.graph.output_ids = [built.total(built.transpose(0, 1, 0), built.transpose(0, 1, 0))]
    simplify(built.graph)
    assert kinds(built.graph) == {"XNNStaticTranspose": 1, "XNNAdd": 1}


def test_a_move_whose_value_is_asked_for_stays():
    built = Graph(2, 3)
    built.graph.output_ids = [built.transpose(built.transpose(0, 1, 0), 1, 0)]
    expected = run(built.graph)
    simplify(built.graph)
    assert kinds(built.graph) == {"XNNStaticTranspose": 1}
    assert np.array_equal(run(built.graph)[0], expected[0])


def test_quantized_values_are_left_alone():
    built = Graph(2, 3)
    built.graph.output_ids = [built.sigmoid(built.transpose(built.transpose(0, 1, 0), 1, 0))]
    middle = built.graph.xvalues[1]
    middle.xvalue_union = schema.XNNQuantizedTensorValue(middle.xvalue_union, schema.PerTensorQuant(0.1, 0))
    simplify(built.graph)
    assert kinds(built.graph) == {"XNNStaticTranspose": 2, "XNNSigmoid": 1}


def test_executorch_is_left_as_it_was():
    preprocess = pytest.importorskip("executorch.backends.xnnpack.xnnpack_preprocess")
    before = preprocess.serialize_xnnpack_binary
    with eliminate_transposes():
        assert preprocess.serialize_xnnpack_binary is not before
    assert preprocess.serialize_xnnpack_binary is before
