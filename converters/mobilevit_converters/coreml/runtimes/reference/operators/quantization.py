"""Between floating point and the 8-bit integers of activations (iOS 17)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


def _quantize(
    input: Tensor,
    scale: float | Tensor,
    output_dtype: str,
    zero_point: int | Tensor = 0,
    axis: int | None = None,
) -> Tensor:
    """clip(round(input / scale) + zero_point), halves to even."""
    scale, zero_point = _along(axis, scale, input), _along(axis, zero_point, input)
    return ((input / scale).round() + zero_point).clamp(*_LIMITS[output_dtype])


def _dequantize(input: Tensor, scale: float | Tensor, zero_point: int | Tensor = 0, axis: int | None = None) -> Tensor:
    """scale * (input - zero_point)"""
    return _along(axis, scale, input) * (input.float() - _along(axis, zero_point, input))


def _along(axis: int | None, value: float | Tensor, whole: Tensor) -> Tensor:
    """One value for all of `whole`, or one for each index along `axis`, so that it broadcasts."""
    value = torch.as_tensor(value).float()
    if axis is None:
        return value
    return value.reshape([-1 if i == axis % whole.ndim else 1 for i in range(whole.ndim)])


QUANTIZATION: dict[str, Callable[..., Tensor]] = {"quantize": _quantize, "dequantize": _dequantize}
