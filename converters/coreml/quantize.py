"""Weights, and in `int8` activations too, as integers: changes to a MIL program before it is emitted."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobilevit_sdk.quantization import Quantization, QuantizationRecipe

WEIGHTED = {"conv": "convolution", "linear": "linear"}  # MIL operator -> its kind in a recipe
LARGE = 1024  # elements; other constants than weights, such as position biases, are quantised from this size on
TABLE = 16  # values of a 4-bit palette
MOST_CUTS = 128
# Fewer weights than this have 8 bits in `int4-weight`: with its table in float16, a palette would save them less than a
# quarter. A depthwise kernel has 9 weights, of which no table of 16 is worth its place.
FEWEST_IN_PALETTE = 128


def quantize(program: Any, precision: str, quantization: Quantization, wrappers: int) -> None:
    """Change `program`, a coremltools `Program` in floating point, to `precision`.

    `wrappers`: how many modules stand around the network whose module paths the recipe knows. Raises ValueError where
    the values to calibrate with are not finite.
    """
    from converters.coreml.quantize_activations import quantize_activations

    function = program.functions["main"]
    kept = KeptFloat(quantization.recipe, wrappers)
    if precision == "int8":
        quantize_activations(function, quantization, kept)
    quantize_weights(function, kept, bits=4 if precision == "int4-weight" else 8)


class KeptFloat:
    """Which operators a recipe leaves in floating point."""

    def __init__(self, recipe: QuantizationRecipe, wrappers: int) -> None:
        self._recipe, self._wrappers = recipe, wrappers

    def has(self, op: Any, kind: str | None = None) -> bool:
        """Whether the operator stays as it is, for its module's sake or for that of its `kind` in the recipe."""
        from coremltools.converters.mil.mil.scope import ScopeSource

        scope = op.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME, [])  # its last part names a value
        path = scope[self._wrappers - 1 : -1]
        module = ".".join(path[1:] if path[:1] == ["network"] else path)
        return (kind is not None and kind not in self._recipe.operators) or self._recipe.keeps_float(module)


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
            if all(weighted) or op.val.val.size >= LARGE:
                with new_operators(before=first(readers, order)):
                    stored = _stored(op.val.val, op.name, bits if all(weighted) else 8, has_four_bits=bits == 4)
                for reader in readers:
                    replace_input(reader, constant, stored)
                function.remove_ops([op])


def _stored(value: np.ndarray, name: str, bits: int, has_four_bits: bool) -> Any:
    """The constant in integers, and the operator that makes float16 of it; iOS 18, which has 4 bits, spells it anew."""
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    if bits == 4 and value[0].size >= FEWEST_IN_PALETTE:
        tables, indices = palettes(torch.from_numpy(value).flatten(1).float())
        return mb.constexpr_lut_to_dense(
            indices=indices.numpy().reshape(value.shape).astype(types.nptype_from_builtin(types.uint4)),
            lut=tables.numpy().astype(np.float16).reshape(len(value), *[1] * (value.ndim - 1), TABLE, 1),
            name=f"{name}_palettised",
        )
    axis = next((axis for axis, size in enumerate(value.shape) if size > 1), 0)
    integers, scale = int8(value, axis)
    name = f"{name}_quantised"
    if has_four_bits:
        return mb.constexpr_blockwise_shift_scale(data=integers, scale=along(scale, axis, value.ndim), name=name)
    zero_point = np.zeros(len(scale), np.int8)
    return mb.constexpr_affine_dequantize(
        quantized_data=integers, zero_point=zero_point, scale=scale, axis=np.int32(axis), name=name
    )


def int8(value: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers from -127 to 127, and the scale in the type of `value` for each index along `axis`."""
    others = tuple(i for i in range(value.ndim) if i != axis)
    scale = (np.abs(value.astype(np.float32)).max(others) / 127).astype(value.dtype)
    scale[scale == 0] = np.finfo(value.dtype).smallest_normal
    wide = along(scale.astype(np.float32), axis, value.ndim)
    return np.rint(value / wide).clip(-127, 127).astype(np.int8), scale


def along(vector: np.ndarray, axis: int, rank: int) -> np.ndarray:
    return vector.reshape([-1 if i == axis else 1 for i in range(rank)])


def palettes(rows: Tensor, batch: int = 256, steps: int = 20) -> tuple[Tensor, Tensor]:
    """For each row of numbers the 16 values nearest to them in the mean square, and which of these each number takes.

    k-means in one dimension: exact by dynamic programming (Wang and Song, "Ckmeans.1d.dp", R Journal 2011) for rows of
    up to 128 numbers; of more, runs of neighbours go together and Lloyd's steps improve on it. Shapes: [O, N] ->
    [O, 16], ascending, rounded to float16, and [O, N].
    """
    found = torch.cat([_centres(part, steps) for part in torch.split(rows, batch)]).half().float()
    return found, _nearest(rows, found)


def _centres(rows: Tensor, steps: int) -> Tensor:
    """[O, N] -> [O, 16]"""
    ordered = rows.sort(1).values
    sums = torch.nn.functional.pad(ordered.double().cumsum(1), (1, 0))  # [O, N + 1], of the numbers before each place
    squares = torch.nn.functional.pad(ordered.double().square().cumsum(1), (1, 0))
    cuts = _cuts(ordered)  # [O, C], the places where one cluster may end and the next begin
    at, sum_at, square_at = cuts.double(), sums.gather(1, cuts), squares.gather(1, cuts)
    count, total, square = (x[:, None, :] - x[:, :, None] for x in (at, sum_at, square_at))
    cost = (square - total.square() / count.clamp(min=1)).clamp(min=0).masked_fill(count < 0, torch.inf)  # [O, C, C]
    best, origins = cost[:, 0], list[Tensor]()
    for _ in range(TABLE - 1):
        best, origin = (best[:, :, None] + cost).min(1)
        origins.append(origin)
    ends = [torch.full_like(cuts[:, :1], cuts.shape[1] - 1)]
    for origin in reversed(origins):
        ends.insert(0, origin.gather(1, ends[0]))
    borders = torch.nn.functional.pad(cuts.gather(1, torch.cat(ends, 1)), (1, 0))  # [O, 17]
    tables = ordered[:, -1:].expand(-1, TABLE)  # what an empty cluster has
    for _ in range(steps):
        count = borders.diff(dim=1)
        means = (sums.gather(1, borders).diff(dim=1) / count.clamp(min=1)).float()
        tables = torch.where(count > 0, means, tables).sort(1).values
        inner = torch.searchsorted(ordered, (tables[:, 1:] + tables[:, :-1]) / 2)
        borders = torch.cat((borders[:, :1], inner, borders[:, -1:]), 1)
    return tables


def _cuts(ordered: Tensor) -> Tensor:
    """Every place of a short row; of a long one those at even quantiles and those at even steps of its numbers."""
    rows, length = ordered.shape
    if length <= MOST_CUTS:
        return torch.arange(length + 1).expand(rows, -1)
    half = torch.linspace(0, 1, MOST_CUTS // 2 + 1)
    by_count = (half * length).long().expand(rows, -1)
    by_value = torch.searchsorted(ordered, (ordered[:, :1] + (ordered[:, -1:] - ordered[:, :1]) * half).contiguous())
    return torch.cat((by_count, by_value), 1).sort(1).values


def _nearest(rows: Tensor, tables: Tensor) -> Tensor:
    return torch.searchsorted((tables[:, 1:] + tables[:, :-1]) / 2, rows.contiguous())


def first(ops: Iterable[Any], order: dict[Any, int]) -> Any:
    return min(ops, key=order.__getitem__)


def new_operators(before: Any) -> ExitStack:
    """Operators made within the context come before that one, and belong to its module."""
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil.scope import ScopeInfo, ScopeSource

    stack = ExitStack()
    sources = (ScopeSource.TORCHSCRIPT_MODULE_NAME, ScopeSource.TORCHSCRIPT_MODULE_TYPE)
    stack.enter_context(mb.scope(*(ScopeInfo(s, list(before.scopes[s])) for s in sources if s in before.scopes)))
    stack.enter_context(mb.set_before_op(before))
    return stack


def replace_input(op: Any, old: Any, new: Any) -> None:
    """Let `op` read `new` wherever it reads `old`, alone or in a list."""
    changed = {}
    for name, given in op.inputs.items():
        if given is old:
            changed[name] = new
        elif isinstance(given, list | tuple) and any(var is old for var in given):
            changed[name] = tuple(new if var is old else var for var in given)
    op.set_inputs(no_check_var_types=True, **changed)
