"""Operands of equal rank, without which LiteRT's GPU accelerator computes something else than the CPU.

TFLite broadcasts from the last axis: [3, 9, 9] + [1, 3, 9, 9] is [1, 3, 9, 9]. The accelerator lays every tensor out as
[batch, height, width, channels] and takes the first axis for the batch, whatever the rank: here the 3 meets the 1. It
accepts the whole graph and answers wrongly. litert-torch drops axes of 1 wherever broadcasting allows it, so they are
restored here by reshapes. Scalars and vectors of channels need none.

It also drops them as a FULLY_CONNECTED's answer: [1, 17, 768] times [192, 768] is then [17, 192]. The accelerator takes
that with weights in floats, and refuses the whole graph with weights in 8 bits. There the operator itself keeps them.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from mobilevit_converters.tflite.file.hazards import BROADCASTING
from mobilevit_converters.tflite.file.schema import append, load_schema, opcode_index, operator_name


def broadcast_ranks(model: Any) -> None:
    """Give operands of a lower rank than their operator's answer leading axes of 1, in place.

    `model` is a `ModelT` of the public schema, with static shapes. A constant gets its shape, another tensor a RESHAPE.
    """
    for graph in model.subgraphs:
        _keep_axes(model, graph)
        operators = []
        for operator in graph.operators:
            if operator_name(model, operator) in BROADCASTING:
                rank = len(graph.tensors[operator.outputs[0]].shape)
                for i, operand in enumerate(operator.inputs):
                    if 2 <= len(graph.tensors[operand].shape) < rank:
                        operator.inputs[i], reshapes = _with_rank(model, graph, operand, rank)
                        operators += reshapes
            operators.append(operator)
        graph.operators = operators


def _keep_axes(model: Any, graph: Any) -> None:
    """Let each matrix answer with the leading axes of 1 of its input; a RESHAPE drops them for whom that matters."""
    readers: dict[int, list[Any]] = {}
    for operator in graph.operators:
        for operand in operator.inputs:
            readers.setdefault(operand, []).append(operator)
    operators = []
    for operator in graph.operators:
        operators.append(operator)
        if operator_name(model, operator) != "FULLY_CONNECTED" or operator.builtinOptions.keepNumDims:
            continue
        (dropped,) = operator.outputs
        given, answer = graph.tensors[operator.inputs[0]], graph.tensors[dropped]
        added = len(given.shape) - len(answer.shape)
        if added < 1 or [*given.shape[:-1]] != [1] * added + [*answer.shape[:-1]]:
            continue
        whole = copy.copy(answer)
        whole.name, whole.shapeSignature = answer.name + b";rank", None
        whole.shape = np.array([1] * added + [*answer.shape], np.int32)
        operator.builtinOptions.keepNumDims = True
        operator.outputs = [append(graph.tensors, whole)]
        needed = dropped in graph.outputs
        for reader in readers.get(dropped, []):
            if _sees_no_axes_of_1(model, graph, reader, len(whole.shape)):
                reader.inputs = [operator.outputs[0] if operand == dropped else operand for operand in reader.inputs]
            else:
                needed = True
        if needed:
            operators.append(_reshape(model, graph, operator.outputs[0], dropped))
    graph.operators = operators


def _sees_no_axes_of_1(model: Any, graph: Any, reader: Any, rank: int) -> bool:
    """Whether `reader` answers the same to an operand of `rank` axes, of which the first are 1 and new."""
    name = operator_name(model, reader)
    return name == "RESHAPE" or (name in BROADCASTING and len(graph.tensors[reader.outputs[0]].shape) >= rank)


def _with_rank(model: Any, graph: Any, index: int, rank: int) -> tuple[int, list[Any]]:
    """A tensor that is `index` with `rank` axes, and what computes it."""
    source = graph.tensors[index]
    padded = copy.copy(source)
    padded.name, padded.shapeSignature = source.name + b";rank", None
    padded.shape = np.array([1] * (rank - len(source.shape)) + list(source.shape), np.int32)
    if model.buffers[source.buffer].data is not None:  # a constant: another view of the same numbers
        return append(graph.tensors, padded), []
    padded.buffer = 0  # the buffer of all computed tensors
    place = append(graph.tensors, padded)
    return place, [_reshape(model, graph, index, place)]


def _reshape(model: Any, graph: Any, given: int, answer: int) -> Any:
    """The operator that makes the tensor `answer` of the tensor `given`."""
    schema = load_schema()
    shape = np.array(graph.tensors[answer].shape, np.int32)
    sizes = schema.TensorT()
    sizes.name = graph.tensors[answer].name + b";shape"
    sizes.type, sizes.shape = schema.TensorType.INT32, np.array([len(shape)], np.int32)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(shape.tobytes(), np.uint8)
    sizes.buffer = append(model.buffers, buffer)
    reshape = schema.OperatorT()
    reshape.opcodeIndex = opcode_index(model, "RESHAPE")
    reshape.inputs, reshape.outputs = [given, append(graph.tensors, sizes)], [answer]
    reshape.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    reshape.builtinOptions = schema.ReshapeOptionsT()
    reshape.builtinOptions.newShape = shape
    return reshape
