"""1x1 convolutions as fully connected layers, the only operator that TFLite has in groups of 4 bits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from mobilevit_converters.tflite.file.schema import is_constant, load_schema, opcode_index, operator_name


def pointwise_as_linears(model: Any) -> None:
    """Turn every 1x1 convolution of stride 1 into the FULLY_CONNECTED that computes the same pixel by pixel, in place.

    `model` is a `ModelT` of the public schema. Weights [O, 1, 1, I] become [O, I].
    """
    schema = load_schema()
    (graph,) = model.subgraphs
    readers = Counter(int(tensor) for operator in graph.operators for tensor in operator.inputs)
    for operator in graph.operators:
        options = operator.builtinOptions
        if operator_name(model, operator) != "CONV_2D" or not is_constant(model, operator.inputs[1]):
            continue
        kernel = graph.tensors[operator.inputs[1]]
        if (options.strideH, options.strideW, *kernel.shape[1:3], readers[operator.inputs[1]]) != (1, 1, 1, 1, 1):
            continue
        kernel.shape = np.array([kernel.shape[0], kernel.shape[3]], np.int32)
        operator.opcodeIndex = opcode_index(model, "FULLY_CONNECTED")
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
        operator.builtinOptions.keepNumDims = True
        operator.builtinOptions.fusedActivationFunction = options.fusedActivationFunction
