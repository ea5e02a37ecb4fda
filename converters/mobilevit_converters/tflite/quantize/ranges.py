"""Calibration: the ranges that 8 bits must cover, observed by running images through the float model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mobilevit_converters.tflite.file.operators import Operator, is_float_value
from mobilevit_converters.tflite.file.schema import parse, serialize
from mobilevit_converters.tflite.quantize.op_selection import KEEPING_RANGE
from mobilevit_converters.tflite.toolchain import import_from
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.formats.ranges import RangeEstimator

Range = tuple[float, float]

SIGMOID: Range = (0.0, 255 / 256)  # TFLite's kernels write a sigmoid in these 256 levels, whatever range is asked for


def find_ranges(content: bytes, operators: Sequence[Operator], quantization: Quantization) -> dict[int, Range]:
    """Low and high of every float tensor that `operators` of the model `content` read or write.

    The images go through the model one at a time. A tensor that holds the values of another shares its range, so that
    passing them on needs no conversion.
    """
    model = parse(content)
    origin: dict[int, int] = {}
    for operator in operators:  # in the order of execution
        if operator.code in KEEPING_RANGE:
            source = operator.inputs[0]
            origin |= dict.fromkeys(operator.outputs, origin.get(source, source))
    tensors = dict.fromkeys(
        tensor
        for operator in operators
        for tensor in (*operator.inputs, *operator.outputs)
        if is_float_value(model, tensor)
    )
    ranges = {tensor: SIGMOID for operator in operators if operator.code == "LOGISTIC" for tensor in operator.outputs}
    sources = dict.fromkeys(origin.get(tensor, tensor) for tensor in tensors)
    ranges |= _observed(model, [tensor for tensor in sources if tensor not in ranges], quantization)
    return {tensor: ranges[origin.get(tensor, tensor)] for tensor in tensors}


def _observed(model: Any, tensors: Sequence[int], quantization: Quantization) -> dict[int, Range]:
    litert = import_from("ai-edge-litert", "ai_edge_litert.interpreter")
    (graph,) = model.subgraphs
    (image,) = (int(tensor) for tensor in graph.inputs)
    computed = [tensor for tensor in tensors if tensor != image]
    graph.outputs, model.signatureDefs = computed, []
    content = serialize(model)
    interpreter = litert.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (given,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    estimators = {tensor: RangeEstimator(quantization.recipe) for tensor in tensors}
    for pixels in quantization.images:
        maps = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
        interpreter.set_tensor(given["index"], maps)
        interpreter.invoke()
        if image in estimators:
            estimators[image].observe(maps)
        for tensor, output in zip(computed, outputs, strict=True):
            estimators[tensor].observe(interpreter.get_tensor(output["index"]))
    return {tensor: estimator.range() for tensor, estimator in estimators.items()}
