"""Integer weights, and in `int8` integer activations: edits of a MIL program before it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mobilevit_converters.coreml.quantize.mil_edits import KeptFloat, first, new_operators, replace_input
from mobilevit_converters.quantization.integers import MIN_QUANTIZED_ELEMENTS, along, int8
from mobilevit_converters.quantization.palettes import MIN_PALETTE_ELEMENTS, TABLE, palettes
from mobilevit_sdk.formats.quantization import Quantization

WEIGHTED = {"conv": "convolution", "linear": "linear"}  # MIL operator -> its kind in a recipe


def quantize(program: Any, precision: str, quantization: Quantization, wrappers: int) -> None:
    """Change `program`, a coremltools `Program` in floating point, to `precision`.

    `wrappers`: how many modules wrap the network whose module paths the recipe uses. Raises ValueError where
    the values to calibrate with are not finite.
    """
    from mobilevit_converters.coreml.quantize.activations import quantize_activations

    function = program.functions["main"]
    kept = KeptFloat(quantization.recipe, wrappers)
    if precision == "int8":
        quantize_activations(function, quantization, kept)
    quantize_weights(function, kept, bits=4 if precision == "int4-weight" else 8)


def quantize_weights(function: Any, kept: KeptFloat, bits: int) -> None:
    """Store weights and large constants in `bits`; the operators that read them get what is stored, in float16 again.

    With 4 bits, each output channel has a palette of its own, the 16 values that lie nearest to its weights.
    """
    order = {op: index for index, op in enumerate(function.operations)}
    with function:
        for op in list(function.operations):
            if op.op_type != "const" or not isinstance(op.val.val, np.ndarray) or op.val.val.dtype != np.float16:
                continue
            (constant,) = op.outputs
            readers = list(constant.child_ops)
            weighted = [r.op_type in WEIGHTED and r.inputs["weight"] is constant for r in readers]
            if not readers or any(
                kept.has(r, WEIGHTED[r.op_type] if weighs else None)
                for r, weighs in zip(readers, weighted, strict=True)
            ):
                continue
            if all(weighted) or op.val.val.size >= MIN_QUANTIZED_ELEMENTS:
                with new_operators(before=first(readers, order)):
                    stored = _stored(op.val.val, op.name, bits if all(weighted) else 8, has_four_bits=bits == 4)
                for reader in readers:
                    replace_input(reader, constant, stored)
                function.remove_ops([op])


def _stored(value: np.ndarray, name: str, bits: int, has_four_bits: bool) -> Any:
    """The constant in integers with the operator that turns it into float16; iOS 18, which has 4 bits, has new ones."""
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    if bits == 4 and value[0].size >= MIN_PALETTE_ELEMENTS:
        tables, indices = palettes(torch.from_numpy(value).flatten(1).float())
        return mb.constexpr_lut_to_dense(
            indices=indices.numpy().reshape(value.shape).astype(types.nptype_from_builtin(types.uint4)),
            lut=tables.numpy().astype(np.float16).reshape(len(value), *[1] * (value.ndim - 1), TABLE, 1),
            name=f"{name}_palettized",
        )
    axis = next((axis for axis, size in enumerate(value.shape) if size > 1), 0)
    integers, scale = int8(value, axis)
    name = f"{name}_quantized"
    if has_four_bits:
        return mb.constexpr_blockwise_shift_scale(data=integers, scale=along(scale, axis, value.ndim), name=name)
    zero_point = np.zeros(len(scale), np.int8)
    return mb.constexpr_affine_dequantize(
        quantized_data=integers, zero_point=zero_point, scale=scale, axis=np.int32(axis), name=name
    )
