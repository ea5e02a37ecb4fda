"""Integer precisions in a .tflite file: litert-quantizer rewrites it, by a form and ranges for each operator."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from mobilevit_converters.tflite.file.operators import WEIGHTED, Operator, operators_of
from mobilevit_converters.tflite.file.schema import is_constant, operator_name, parse, serialize, tensor_types
from mobilevit_converters.tflite.passes.constants import ConstantType, pack_constants
from mobilevit_converters.tflite.passes.pointwise import pointwise_as_linears
from mobilevit_converters.tflite.quantize.op_selection import integer_operators
from mobilevit_converters.tflite.quantize.ranges import Range, find_ranges
from mobilevit_converters.tflite.toolchain import import_from
from mobilevit_sdk.formats.quantization import MIN_INT4_WEIGHTS, Quantization, QuantizationRecipe

Statistics = dict[str, np.ndarray]

MAX_BIAS = 2**30  # in steps, of 32 bits; what is added to it needs room too

GROUPS = (32, 64, 128, 256)  # of weights that can share a scale in 4 bits

BY_CHANNEL = 12  # the version of FULLY_CONNECTED with a scale for each channel of integer weights

_INT8 = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
_ACTIVATION = {"num_bits": 8, "symmetric": False, "granularity": "TENSORWISE", "dtype": "INT"}

# What becomes of an operator, in the terms of litert-quantizer.
FORMS: dict[str, dict[str, Any]] = {
    "static": {
        "activation_tensor_config": _ACTIVATION,
        "weight_tensor_config": _INT8,
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
    },
    "dynamic": {"weight_tensor_config": _INT8, "compute_precision": "INTEGER", "explicit_dequantize": False},
    **{
        f"groups of {size}": {
            "weight_tensor_config": _INT8 | {"num_bits": 4, "granularity": f"BLOCKWISE_{size}"},
            "compute_precision": "INTEGER",
            "explicit_dequantize": False,
        }
        for size in GROUPS
    },
    "weight": {"weight_tensor_config": _INT8, "compute_precision": "FLOAT", "explicit_dequantize": True},
}


def quantize(content: bytes, graph: nn.Module, precision: str, quantization: Quantization) -> bytes:
    """A float model, whose tensors are named by the modules of `graph`, in an integer precision.

    The image and the scores stay float32.
    """
    model = parse(content)
    if precision == "int4-weight":
        pointwise_as_linears(model)
    operators = operators_of(model, graph)
    forms = _forms(model, operators, precision, quantization.recipe)
    if not forms:
        return content
    static = [operators[index] for index, form in sorted(forms.items()) if form == "static"]
    ranges = find_ranges(content, static, quantization) if static else {}
    statistics = (
        _statistics(ranges) | _kernel_statistics(model, static, ranges) | _group_statistics(model, operators, forms)
    )
    for number, tensor in enumerate(
        model.subgraphs[0].tensors
    ):  # by these numbers, operators and ranges find their tensors
        tensor.name = f"{number}:{tensor.name.decode()}"
    names = [tensor.name for tensor in model.subgraphs[0].tensors]
    outputs = [names[tensor] for tensor in model.subgraphs[0].outputs]
    content = serialize(model)
    content = _rewritten(content, _recipe(operators, forms), {names[i]: found for i, found in statistics.items()})
    model = parse(content)
    _keep_outputs_float(model, outputs)
    floating = {names[op.outputs[0]] for op in operators if quantization.recipe.keeps_float(op.module)}
    # The GPU takes files of int8-dynamic, and aborts on constants in 8 bits.
    dtype: ConstantType = "FLOAT16" if precision == "int8-dynamic" else "INT8"
    pack_constants(model, dtype, lambda tensor: model.subgraphs[0].tensors[tensor].name.decode() in floating)
    _raise_version(model)
    release_unread(model)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = tensor.name.decode().partition(":")[2]
    return serialize(model)


def _keep_outputs_float(model: Any, names: Sequence[str]) -> None:
    """Of an output that an operator in integers reads, too, litert-quantizer returns the integers that it reads."""
    (graph,) = model.subgraphs
    places = {tensor.name.decode(): place for place, tensor in enumerate(graph.tensors)}
    graph.outputs = [
        tensor if tensor_types()[graph.tensors[tensor].type] == "FLOAT32" else places[name]
        for tensor, name in zip(graph.outputs, names, strict=True)
    ]


def _raise_version(model: Any) -> None:
    """Write the version that litert-quantizer leaves out: matrices need a kernel with a scale for each channel.

    An older kernel uses the first scale for all channels and answers wrongly; given the version, it refuses the file.
    """
    (graph,) = model.subgraphs
    for operator in graph.operators:
        if operator_name(model, operator) == "FULLY_CONNECTED":
            image, weights = (tensor_types()[graph.tensors[tensor].type] for tensor in operator.inputs[:2])
            if image == "FLOAT32" != weights:
                code = model.operatorCodes[operator.opcodeIndex]
                code.version = max(code.version, BY_CHANNEL)


def release_unread(model: Any) -> None:
    """Detach tensors that nothing reads any more from buffers that may hold another tensor's integers by now."""
    (graph,) = model.subgraphs
    read = {int(index) for operator in graph.operators for index in (*operator.inputs, *operator.outputs)}
    read |= {int(end) for end in (*graph.inputs, *graph.outputs)}
    for tensor in graph.tensors:  # the scales of groups are tensors of their own
        groups = tensor.quantization and tensor.quantization.details
        read |= {int(groups.scales), int(groups.zeroPoints)} if groups else set()
    for index, tensor in enumerate(graph.tensors):
        if index not in read:
            tensor.buffer = 0  # the buffer of all computed tensors


def _forms(model: Any, operators: Sequence[Operator], precision: str, recipe: QuantizationRecipe) -> dict[int, str]:
    """The form of each operator by index; operators without one stay as they are."""
    weighted = [
        index
        for index, operator in enumerate(operators)
        if operator.code in WEIGHTED
        and is_constant(model, operator.inputs[1])
        and not recipe.keeps_float(operator.module)
    ]
    forms = dict.fromkeys(weighted, "weight")
    if precision == "int8":
        outputs = [int(tensor) for tensor in model.subgraphs[0].outputs]
        forms |= dict.fromkeys(integer_operators(operators, outputs, recipe), "static")
    else:
        products = [index for index in weighted if operators[index].code != "DEPTHWISE_CONV_2D"]
        if precision in (
            "int8-dynamic",
            "int4-weight",
        ):  # XNNPACK has no depthwise convolution that quantizes its input
            forms |= dict.fromkeys(products, "dynamic")
        if precision == "int4-weight":
            sizes = {index: _group_size(model, operators[index], recipe) for index in products}
            forms |= {index: f"groups of {size}" for index, size in sizes.items() if size}
    return forms


def _group_size(model: Any, operator: Operator, recipe: QuantizationRecipe) -> int | None:
    """How many weights of a layer share a scale in 4 bits; None where it takes 8 bits.

    The largest supported size that the recipe allows, or else the smallest one.
    """
    shape = [int(size) for size in model.subgraphs[0].tensors[operator.inputs[1]].shape]
    if operator.code != "FULLY_CONNECTED" or math.prod(shape) < MIN_INT4_WEIGHTS:
        return None
    allowed = [size for size in GROUPS if size <= recipe.group_size] or GROUPS[:1]
    return max((size for size in allowed if shape[1] % size == 0), default=None)


def _recipe(operators: Sequence[Operator], forms: Mapping[int, str]) -> list[dict[str, Any]]:
    """A recipe of litert-quantizer, which selects operators by the names of the tensors that they compute."""
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, form in forms.items():
        numbers[form, operators[index].code].append(operators[index].outputs[0])
    return [
        {
            "regex": f"^({'|'.join(map(str, found))}):",
            "operation": code,
            "algorithm_key": "min_max_uniform_quantize",
            "op_config": FORMS[form],
        }
        for (form, code), found in numbers.items()
    ]


def _statistics(ranges: Mapping[int, Range]) -> dict[int, Statistics]:
    return {tensor: {"min": np.float32(low), "max": np.float32(high)} for tensor, (low, high) in ranges.items()}


def _kernel_statistics(model: Any, operators: Sequence[Operator], ranges: Mapping[int, Range]) -> dict[int, Statistics]:
    """Ranges of weights, widened where the bias, in steps of input times weight, would exceed 32 bits.

    Trained networks have such channels: their BatchNorm's gain is almost zero.
    """
    found: dict[int, Statistics] = {}
    for operator in operators:
        if operator.code in WEIGHTED and len(operator.inputs) == 3 and operator.inputs[2] >= 0:
            weights, bias = (_values(model, tensor) for tensor in operator.inputs[1:])
            channel = 3 if operator.code == "DEPTHWISE_CONV_2D" else 0
            others = tuple(axis for axis in range(weights.ndim) if axis != channel)
            low, high = ranges[operator.inputs[0]]
            smallest_step = np.abs(bias) / (MAX_BIAS * (high - low) / 255)
            shape = [-1 if axis == channel else 1 for axis in range(weights.ndim)]
            bound = np.maximum(np.abs(weights).max(others, keepdims=True), 127 * smallest_step.reshape(shape))
            found[operator.inputs[1]] = {"min": -bound, "max": bound}
    return found


def _group_statistics(model: Any, operators: Sequence[Operator], forms: Mapping[int, str]) -> dict[int, Statistics]:
    """Ranges of groups of weights, [O, I / size] for weights [O, I], with scales that are not 0 in float16."""
    found: dict[int, Statistics] = {}
    for index, form in forms.items():
        if form.startswith("groups of "):
            weights = _values(model, operators[index].inputs[1])
            largest = np.abs(weights.reshape(len(weights), -1, int(form.split()[-1]))).max(-1)
            bound = np.maximum(largest, 7 * np.finfo(np.float16).smallest_normal)
            found[operators[index].inputs[1]] = {"min": -bound, "max": bound}
    return found


def _values(model: Any, tensor: int) -> np.ndarray:
    found = model.subgraphs[0].tensors[tensor]
    return np.frombuffer(model.buffers[found.buffer].data, np.float32).reshape(found.shape)


def _rewritten(content: bytes, recipe: list[dict[str, Any]], statistics: Mapping[str, Statistics]) -> bytes:
    quantizer = import_from("litert-quantizer", "litert_quantizer.quantizer").Quantizer(content)
    quantizer.load_quantization_recipe(recipe)
    result = quantizer.quantize(dict(statistics) or None, enable_progress_report=False, enable_progress_bar=False)
    return bytes(result.quantized_model)
