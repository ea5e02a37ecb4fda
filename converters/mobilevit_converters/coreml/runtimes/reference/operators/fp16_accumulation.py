"""The worst case of float16: operators that sum add one term after another, and round to float16 after each.

Hardware may sum in wider types, in pairs or in blocks, all of which lose less; what it does is not documented. Products
are exact before they are added, as in a fused multiply-add.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilevit_converters.coreml.runtimes.reference.operators.layers import pair, refuse_ceil_mode, window_padding


def _round(x: Tensor) -> Tensor:
    return x.half().float()


def _product(x: Tensor, y: Tensor) -> Tensor:
    """[..., M, K] times [..., K, N] is [..., M, N]."""
    total = torch.zeros(())
    for k in range(x.shape[-1]):
        total = _round(total + x[..., k : k + 1] * y[..., k : k + 1, :])
    return total


def _sum(x: Tensor, axes: Sequence[int], *, squared: bool = False) -> Tensor:
    """Over `axes`, in the order of memory; they stay, with size 1."""
    over = sorted(axis % x.ndim for axis in axes)
    kept = [axis for axis in range(x.ndim) if axis not in over]
    terms = x.permute(*kept, *over).flatten(len(kept))  # [*kept, terms]
    total = torch.zeros(())
    for term in terms.unbind(-1):
        total = _round(total + (term * term if squared else term))
    return total.reshape([1 if axis in over else size for axis, size in enumerate(x.shape)])


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = _product(x, weight.mT)
    return y if bias is None else y + bias


def _matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return _product(x.mT if transpose_x else x, y.mT if transpose_y else y)


def _einsum(values: tuple[Tensor, Tensor], equation: str) -> Tensor:
    """[B, C, H, W] times [B, W, H, U] is [B, C, H, U]; without B in rank 3."""
    x, y = values
    return _product(x.movedim(-2, -3), y.movedim(-2, -3)).movedim(-3, -2)


def _conv(
    x: Tensor,
    weight: Tensor,
    pad_type: str,
    bias: Tensor | None = None,
    strides: Tensor | None = None,
    pad: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: int = 1,
) -> Tensor:
    """Over the channels, then the window. Shapes: x [B, C, H, W], weight [D, C / groups, kh, kw]."""
    x, kernel, step, dilation = (
        F.pad(x, window_padding(pad_type, pad)),
        weight.shape[2:],
        pair(strides),
        pair(dilations),
    )
    columns = F.unfold(x, kernel, dilation=dilation, stride=step)  # [B, C * kh * kw, positions]
    columns = columns.reshape(len(x), groups, -1, columns.shape[-1])
    y = _product(weight.reshape(groups, len(weight) // groups, -1), columns)  # [B, groups, D / groups, positions]
    height, width = (
        (size - d * (k - 1) - 1) // s + 1 for size, k, d, s in zip(x.shape[2:], kernel, dilation, step, strict=True)
    )
    y = y.reshape(len(x), len(weight), height, width)
    return y if bias is None else y + bias[:, None, None]


def _deviations(x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Deviations from the mean over `axes`, and their variance."""
    count = math.prod(x.shape[axis] for axis in axes)
    deviations = _round(x - _round(_sum(x, axes) / count))
    return deviations, _round(_sum(deviations, axes, squared=True) / count)


def _layer_norm(
    x: Tensor,
    axes: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    over = sorted(axis % x.ndim for axis in axes.tolist())
    broadcast = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    deviations, variance = _deviations(x, over)
    y = deviations / torch.sqrt(variance + epsilon)
    if gamma is not None:
        y = y * gamma.reshape(broadcast)
    return y if beta is None else y + beta.reshape(broadcast)


def _instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """Over all axes but the first two; gamma and beta have a value for each channel."""
    deviations, variance = _deviations(x, range(2, x.ndim))
    y = deviations / torch.sqrt(variance + epsilon)
    channels = [-1, *[1] * (x.ndim - 2)]
    y = y if gamma is None else y * gamma.reshape(channels)
    return y if beta is None else y + beta.reshape(channels)


def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    powers = _round(torch.exp(_round(x - x.amax(axis, keepdim=True))))
    return powers / _sum(powers, [axis])


def _avg_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    pad_type: str,
    strides: Tensor | None = None,
    pad: Tensor | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    refuse_ceil_mode(ceil_mode)
    padding, kernel, step = window_padding(pad_type, pad), pair(kernel_sizes), pair(strides)
    windows = F.pad(x, padding).unfold(2, kernel[0], step[0]).unfold(3, kernel[1], step[1])  # [B, C, h, w, kh, kw]
    counted = F.pad(torch.ones_like(x), padding, value=0.0 if exclude_padding_from_average else 1.0)
    counted = counted.unfold(2, kernel[0], step[0]).unfold(3, kernel[1], step[1]).sum((-1, -2))
    return _sum(windows, (-1, -2)).squeeze((-1, -2)) / counted


def _reduction(function: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Callable[..., Tensor]:
    """Over `axes`, over all of them when none are given."""

    def reduce(x: Tensor, axes: Tensor | None = None, keep_dims: bool = False) -> Tensor:
        over = tuple(range(x.ndim)) if axes is None else tuple(axes.tolist())
        reduced = function(x, over)
        return reduced if keep_dims else reduced.squeeze(over)

    return reduce


# In place of the same names in `OPERATORS`.
FP16_ACCUMULATION: dict[str, Callable[..., Any]] = {
    "conv": _conv,
    "linear": _linear,
    "matmul": _matmul,
    "einsum": _einsum,
    "layer_norm": _layer_norm,
    "instance_norm": _instance_norm,
    "softmax": _softmax,
    "avg_pool": _avg_pool,
    "reduce_sum": _reduction(_sum),
    "reduce_mean": _reduction(lambda x, over: _sum(x, over) / math.prod(x.shape[axis] for axis in over)),
    "reduce_l2_norm": _reduction(lambda x, over: _sum(x, over, squared=True).sqrt()),
}
