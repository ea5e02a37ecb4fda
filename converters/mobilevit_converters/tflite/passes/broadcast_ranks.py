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
    schema = load_schema()
    for graph in model.subgraphs:
        _keep_axes(model, graph)
        operators = []
        for operator in graph.operators:
            if operator_name(model, operator) in BROADCASTING:
                rank = len(graph.tensors[operator.outputs[0]].shape)
                for i, operand in enumerate(operator.inputs):
                    if 2 <= len(graph.tensors[operand].shape) < rank:
                        operator.inputs[i], reshapes = _with_rank(schema, model, graph, operand, rank)
                        operators += reshapes
            operators.append(operator)
        graph.operators = operators


def _keep_axes(model: Any, graph: Any) -> None:
    """Let matrices answer with their input's axes, where these are 1 and what reads the answer sees no difference."""
    readers: dict[int, list[Any]] = {}
    for operator in graph.operators:
        for operand in operator.inputs:
            readers.setdefault(operand, []).append(operator)
    for operator in graph.operators:
        if operator_name(model, operator) != "FULLY_CONNECTED" or operator.builtinOptions.keepNumDims:
            continue
        given, answer = (graph.tensors[index] for index in (operator.inputs[0], operator.outputs[0]))
        kept = [*given.shape[:-1], answer.shape[-1]]
        added = len(kept) - len(answer.shape)
        if added < 1 or kept != [1] * added + list(answer.shape) or operator.outputs[0] in graph.outputs:
            continue
        if all(
            operator_name(model, reader) == "RESHAPE"
            or (
                operator_name(model, reader) in BROADCASTING
                and len(graph.tensors[reader.outputs[0]].shape) >= len(kept)
            )
            for reader in readers.get(operator.outputs[0], [])
        ):
            operator.builtinOptions.keepNumDims = True
            answer.shape, answer.shapeSignature = np.array(kept, np.int32), None


def _with_rank(schema: Any, model: Any, graph: Any, index: int, rank: int) -> tuple[int, list[Any]]:
    """A tensor that is `index` with `rank` axes, and what computes it."""
    source = graph.tensors[index]
    shape = np.array([1] * (rank - len(source.shape)) + list(source.shape), np.int32)
    padded = copy.copy(source)
    padded.name, padded.shape, padded.shapeSignature = source.name + b";rank", shape, None
    if model.buffers[source.buffer].data is not None:  # a constant: another view of the same numbers
        return append(graph.tensors, padded), []
    padded.buffer = 0  # the buffer of all computed tensors
    sizes = schema.TensorT()
    sizes.name, sizes.type, sizes.shape = padded.name + b";shape", schema.TensorType.INT32, np.array([rank], np.int32)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(shape.tobytes(), np.uint8)
    sizes.buffer = append(model.buffers, buffer)
    reshape = schema.OperatorT()
    reshape.opcodeIndex = opcode_index(model, "RESHAPE")
    reshape.inputs = [index, append(graph.tensors, sizes)]
    reshape.outputs = [append(graph.tensors, padded)]
    reshape.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    reshape.builtinOptions = schema.ReshapeOptionsT()
    reshape.builtinOptions.newShape = shape
    return reshape.outputs[0], [reshape]
