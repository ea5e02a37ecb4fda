"""Large constants in fewer bits: position biases, and any other float32 constants that are not weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any, Literal

import numpy as np

from mobilevit_converters.tflite.file.schema import append, load_schema, opcode_index

ConstantType = Literal["FLOAT16", "INT8"]

MIN_PACKED_ELEMENTS = 1024  # elements; unpacking a smaller one takes as many bytes as it saves
VERSIONS = {"FLOAT16": 3, "INT8": 5}  # of DEQUANTIZE: the first that takes them, with a scale for each channel


def pack_constants(model: Any, dtype: ConstantType, keeps: Callable[[int], bool]) -> None:
    """Put the large float32 constants of `model`, a `ModelT`, into `dtype`, each behind a DEQUANTIZE, in place.

    Of several graphs, only what all of them read is packed: tflite-runtime 2.14 knows what it has unpacked by the
    numbers of tensors, and would give each graph the positions of the last one. Runtimes unpack them once, when the
    model is loaded. `keeps` says of an operator, by its first output, whether its constants stay float32. INT8 has a
    scale for each index of the first axis that is longer than one: for each head.
    """
    packed_buffers: dict[int, int] = {}  # what several graphs read is packed once
    shared = set.intersection(*({tensor.buffer for tensor in graph.tensors} for graph in model.subgraphs))
    for graph in model.subgraphs:
        _pack(model, graph, dtype, keeps, shared, packed_buffers)
    _empty_unread_buffers(model, packed_buffers)


def _pack(
    model: Any,
    graph: Any,
    dtype: ConstantType,
    keeps: Callable[[int], bool],
    shared: Collection[int],
    packed_buffers: dict[int, int],
) -> None:
    schema = load_schema()
    unpacked: dict[int, int] = {}
    unpacking = []
    for operator in graph.operators:
        if keeps(int(operator.outputs[0])):
            continue
        for position, index in enumerate(operator.inputs):
            tensor = graph.tensors[index]
            data = model.buffers[tensor.buffer].data
            if (
                index < 0
                or tensor.type != schema.TensorType.FLOAT32
                or data is None
                or tensor.buffer not in shared
                or len(data) < 4 * MIN_PACKED_ELEMENTS
            ):
                continue
            if len(tensor.shape) == 1:  # the bias of a layer, which kernels want as it is
                continue
            if index not in unpacked:
                packed = append(graph.tensors, _packed(schema, model, tensor, dtype, packed_buffers))
                unpacked[index] = append(graph.tensors, copy.copy(tensor))
                graph.tensors[unpacked[index]].name = tensor.name + b";float32"
                graph.tensors[unpacked[index]].buffer = 0  # the buffer of all computed tensors
                unpacking.append(_dequantize(schema, model, packed, unpacked[index], VERSIONS[dtype]))
            operator.inputs[position] = unpacked[index]
    graph.operators = [*unpacking, *graph.operators]


def _packed(schema: Any, model: Any, tensor: Any, dtype: str, packed_buffers: dict[int, int]) -> Any:
    values = np.frombuffer(model.buffers[tensor.buffer].data, np.float32).reshape(tensor.shape)
    packed, buffer = copy.copy(tensor), schema.BufferT()
    packed.type = getattr(schema.TensorType, dtype)
    if dtype == "INT8":
        axis = next((axis for axis, size in enumerate(values.shape) if size > 1), 0)
        others = tuple(other for other in range(values.ndim) if other != axis)
        scales = np.maximum(np.abs(values).max(others, keepdims=True) / np.float32(127), np.float32(1e-12))
        values = np.rint(values / scales).astype(np.int8)
        packed.quantization = schema.QuantizationParametersT()
        packed.quantization.scale = scales.ravel()
        packed.quantization.zeroPoint = np.zeros(scales.size, np.int64)
        packed.quantization.quantizedDimension = axis
    else:
        values = values.astype(np.float16)
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    if tensor.buffer not in packed_buffers:
        packed_buffers[tensor.buffer] = append(model.buffers, buffer)
    packed.buffer = packed_buffers[tensor.buffer]
    return packed


def _dequantize(schema: Any, model: Any, packed: int, unpacked: int, version: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = opcode_index(model, "DEQUANTIZE", version)
    operator.inputs, operator.outputs = [packed], [unpacked]
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    return operator


def _empty_unread_buffers(model: Any, packed: Collection[int]) -> None:
    """Empty those of the buffers that were `packed`. The buffers keep their indices, which tensors refer to."""
    read = {
        graph.tensors[index].buffer
        for graph in model.subgraphs
        for operator in graph.operators
        for index in operator.inputs
        if index >= 0
    }
    for buffer in {*packed} - read:
        model.buffers[buffer].data = None
