"""1x1 convolutions as fully connected layers, which TFLite alone has in groups of 4 bits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from mobilevit_converters.tflite.file.operators import is_constant
from mobilevit_converters.tflite.toolchain import import_from


def pointwise_as_linears(model: Any) -> None:
    """Turn every 1x1 convolution of stride 1 into the FULLY_CONNECTED that computes the same pixel by pixel, in place.

    `model` is a `ModelT` of the public schema. Weights [O, 1, 1, I] become [O, I].
    """
    schema = import_from("ai-edge-litert", "ai_edge_litert.schema_py_generated")
    (graph,) = model.subgraphs
    readers = Counter(int(tensor) for operator in graph.operators for tensor in operator.inputs)
    for operator in graph.operators:
        code, options = model.operatorCodes[operator.opcodeIndex], operator.builtinOptions
        if code.builtinCode != schema.BuiltinOperator.CONV_2D or not is_constant(model, operator.inputs[1]):
            continue
        kernel = graph.tensors[operator.inputs[1]]
        if (options.strideH, options.strideW, *kernel.shape[1:3], readers[operator.inputs[1]]) != (1, 1, 1, 1, 1):
            continue
        kernel.shape = np.array([kernel.shape[0], kernel.shape[3]], np.int32)
        operator.opcodeIndex = _fully_connected_code(schema, model)
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
        operator.builtinOptions.keepNumDims = True
        operator.builtinOptions.fusedActivationFunction = options.fusedActivationFunction


def _fully_connected_code(schema: Any, model: Any) -> int:
    fully_connected = schema.BuiltinOperator.FULLY_CONNECTED
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == fully_connected:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = fully_connected
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
