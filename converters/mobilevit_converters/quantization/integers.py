"""From floats to 8-bit integers and their scales, in the types that Apple's formats store."""

from __future__ import annotations

import numpy as np

LEVELS = 255  # steps from the lowest to the highest of 8 bits
MIN_SCALE = 2.0**-14  # the smallest normal float16: hardware may take smaller ones for 0
MIN_QUANTIZED_ELEMENTS = 1024  # of constants that are not weights, such as position biases


def affine(low: float, high: float) -> tuple[np.float16, np.int8]:
    """Scale and zero point, real = scale * (integer - zero point), for [low, high], which holds 0."""
    scale = np.float16(max((high - low) / LEVELS, MIN_SCALE))
    return scale, np.int8(np.rint(-128 - low / float(scale)).clip(-128, 127))


def int8(value: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers from -127 to 127, and the scale in the type of `value` for each index along `axis`."""
    others = tuple(i for i in range(value.ndim) if i != axis)
    scale = (np.abs(value.astype(np.float32)).max(others) / 127).astype(value.dtype)
    scale[scale == 0] = np.finfo(value.dtype).smallest_normal
    wide = along(scale.astype(np.float32), axis, value.ndim)
    return np.rint(value / wide).clip(-127, 127).astype(np.int8), scale


def along(vector: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """A vector as a tensor of `rank` axes, of which all but `axis` have one element."""
    return vector.reshape([-1 if i == axis else 1 for i in range(rank)])
