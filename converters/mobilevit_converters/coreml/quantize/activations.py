"""8-bit activations: pairs of `quantize` and `dequantize` in a MIL program, with ranges that the program itself yields.

The pattern is what Apple's own tools write for the Neural Engine: a pair before and after each convolution, linear
layer, sum and pool, an activation function that follows counting as part of it (coremltools 9.0,
insert_prefix_quantize_dequantize_pair and insert_suffix_quantize_dequantize_pair; with SiLU and GELU among the
functions in coremltools.optimize.torch.quantization). "W8A8 mode, accelerated on NE for A17 pro/M4 chips" from iOS 17
on, and slower than float16 on CPU and GPU: Apple's guide to Core ML Tools, "What's New" and "Performance" of
quantization, which has MobileViTv2-1.0 at 1.03 ms against 1.36 ms on an iPhone 15 Pro.

coremltools finds ranges by running the model on a Mac, and keeps those of the last image alone; here the reference
runs the program, over all images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilevit_converters.coreml.file.package import IMAGE
from mobilevit_converters.coreml.quantize.mil_edits import KeptFloat, first, new_operators, replace_input
from mobilevit_converters.coreml.runtimes.reference.program import ReferenceFunction
from mobilevit_converters.quantization.integers import affine
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.formats.ranges import RangeEstimator

INTEGER = {"conv": "convolution", "linear": "linear", "add": "add", "avg_pool": "pool", "max_pool": "pool"}
ACTIVATIONS = {"relu", "relu6", "leaky_relu", "silu", "gelu", "sigmoid", "sigmoid_hard", "tanh"}
# Their outputs are values of their inputs: where both are integers, they are the same integers.
MOVES = {
    "concat",
    "expand_dims",
    "max_pool",
    "pixel_shuffle",
    "pixel_unshuffle",
    "reshape",
    "slice_by_index",
    "split",
    "squeeze",
    "transpose",
}


def quantize_activations(function: Any, quantization: Quantization, kept: KeptFloat) -> None:
    """Make the integer operators in `function`, of a MIL program, read and return values rounded to int8."""
    from coremltools.converters.mil.mil import Builder as mb

    readers = _integer_tensors(function, kept)
    parameters = _parameters_of(function, list(readers), quantization)
    order = {op: index for index, op in enumerate(function.operations)}
    with function:
        for tensor, ops in readers.items():
            scale, zero_point = parameters[tensor]
            with new_operators(before=first(ops, order)):
                integers = mb.quantize(
                    input=tensor,
                    scale=scale,
                    zero_point=zero_point,
                    output_dtype="int8",
                    name=f"{tensor.name}_quantized",
                )
                values = mb.dequantize(
                    input=integers, scale=scale, zero_point=zero_point, name=f"{tensor.name}_dequantized"
                )
            for op in ops:
                replace_input(op, tensor, values)


def _integer_tensors(function: Any, kept: KeptFloat) -> dict[Any, list[Any]]:
    """The tensors that become integers, each with the operators that read it as such.

    The result of an integer operator is read as integers by all; any other result, by integer operators only.
    """
    answers = _answers(function)
    produced: set[Any] = set()
    read: dict[Any, list[Any]] = {}
    for op in function.operations:
        inputs = [op.inputs[name] for name in ("x", "y") if op.inputs.get(name) is not None]
        if op.op_type not in INTEGER or kept.has(op, INTEGER[op.op_type]) or any(map(_is_constant, inputs)):
            continue
        for var in inputs:
            read.setdefault(var, []).append(op)
        (result,) = op.outputs
        if len(result.child_ops) == 1:
            (next_op,) = result.child_ops
            if next_op.op_type in ACTIVATIONS and not kept.has(next_op, "activation"):
                (result,) = next_op.outputs
        if result not in answers and result.child_ops:
            produced.add(result)
    results = [var for op in function.operations for var in op.outputs]
    return {
        var: list(dict.fromkeys(var.child_ops if var in produced else read[var]))
        for var in results
        if var in produced or var in read
    }


def _answers(function: Any) -> set[Any]:
    """The outputs, and what they are only cast, moved or normalized from: close classes would become equal."""
    found, pending = set(), list(function.outputs)
    while pending:
        var = pending.pop()
        found.add(var)
        if var.op is not None and var.op.op_type in ("cast", "softmax", "reshape", "squeeze", "transpose"):
            pending.append(var.op.inputs["x"])
    return found


def _is_constant(var: Any) -> bool:
    return var.op is not None and var.op.op_type == "const"


def _parameters_of(
    function: Any, tensors: list[Any], quantization: Quantization
) -> dict[Any, tuple[np.float16, np.int8]]:
    """Scale and zero point of each tensor; those between which values only move share them."""
    estimators = {var.name: RangeEstimator(quantization.recipe) for var in tensors}

    def observe(name: str, value: Any) -> None:
        if name in estimators:
            estimators[name].observe(value.numpy())

    reference = ReferenceFunction(function, Path(IMAGE))
    for image in quantization.images:
        reference({IMAGE: torch.from_numpy(image)}, observe)
    leaders = _leaders(function)
    ranges: dict[Any, tuple[float, float]] = {}
    for var in tensors:
        leader = leaders.get(var, var)
        low, high = estimators[var.name].range()
        lowest, highest = ranges.get(leader, (low, high))
        ranges[leader] = (min(low, lowest), max(high, highest))
    return {var: affine(*ranges[leaders.get(var, var)]) for var in tensors}


def _leaders(function: Any) -> dict[Any, Any]:
    """For each tensor that values are moved from or to, one that represents all tensors with the same values."""
    above: dict[Any, Any] = {}

    def leader(var: Any) -> Any:
        while above.setdefault(var, var) is not var:
            var = above[var]
        return var

    for op in function.operations:
        if op.op_type in MOVES:
            moved = op.inputs["values"] if op.op_type == "concat" else [op.inputs["x"]]
            to, *others = (leader(var) for var in [*moved, *op.outputs])
            for other in others:
                above[other] = to
    return {var: leader(var) for var in list(above)}
