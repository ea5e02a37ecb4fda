"""Operators with weights or windows: convolution, matrix products, normalization, pooling, resizing, the classifier."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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
    """Two-dimensional convolution. Shapes: x [B, C, H, W], weight [D, C / groups, kh, kw]."""
    x = F.pad(x, window_padding(pad_type, pad))
    return F.conv2d(x, weight, bias, pair(strides), 0, pair(dilations), groups)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x, weight, bias)


def _matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


def _einsum(values: tuple[Tensor, Tensor], equation: str) -> Tensor:
    """[B, C, H, W] times [B, W, H, U] is [B, C, H, U], with B and H of 1 broadcast; without B in rank 3."""
    return torch.einsum(equation, *values)


def _batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    return F.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)


def _instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    return F.instance_norm(x, weight=gamma, bias=beta, eps=epsilon)


def _layer_norm(
    x: Tensor,
    axes: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Over any set of axes; gamma and beta have the sizes of those axes, in their order in x."""
    over = sorted(axis % x.ndim for axis in axes.tolist())
    broadcast = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    variance, mean = torch.var_mean(x, over, correction=0, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + epsilon)
    if gamma is not None:
        y = y * gamma.reshape(broadcast)
    return y if beta is None else y + beta.reshape(broadcast)


def _max_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    pad_type: str,
    strides: Tensor | None = None,
    pad: Tensor | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    refuse_ceil_mode(ceil_mode)
    x = F.pad(x, window_padding(pad_type, pad), value=-math.inf)
    return F.max_pool2d(x, pair(kernel_sizes), pair(strides))


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
    padding, window = window_padding(pad_type, pad), (pair(kernel_sizes), pair(strides))
    total = F.avg_pool2d(F.pad(x, padding), *window, divisor_override=1)
    counted = F.pad(torch.ones_like(x), padding, value=0.0 if exclude_padding_from_average else 1.0)
    return total / F.avg_pool2d(counted, *window, divisor_override=1)


def _upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """The sampling grid follows from the two sizes, not from the factor, which only gives the size."""
    if half_pixel_centers not in (None, not align_corners):
        raise ValueError(f"half_pixel_centers={half_pixel_centers} with align_corners={align_corners} is not covered")
    height, width = x.shape[-2:]
    size = (math.floor(height * scale_factor_height), math.floor(width * scale_factor_width))
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def _resize_bilinear(
    x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Tensor:
    if sampling_mode not in ("STRICT_ALIGN_CORNERS", "UNALIGN_CORNERS"):
        raise ValueError(f"sampling mode {sampling_mode} is not covered")
    aligned = sampling_mode == "STRICT_ALIGN_CORNERS"
    return F.interpolate(x, (target_size_height, target_size_width), mode="bilinear", align_corners=aligned)


def _upsample_nearest(x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Tensor:
    if scale_factor_height % 1 or scale_factor_width % 1:
        raise ValueError(f"the fractional scale {scale_factor_height} x {scale_factor_width} is not covered")
    return x.repeat_interleave(int(scale_factor_height), -2).repeat_interleave(int(scale_factor_width), -1)


def _classify(probabilities: Tensor, classes: list[str]) -> tuple[str, dict[str, float]]:
    by_label = dict(zip(classes, probabilities.flatten().tolist(), strict=True))
    return classes[int(probabilities.argmax())], by_label


def window_padding(pad_type: str, pad: Tensor | None) -> tuple[int, ...]:
    """MIL's [top, bottom, left, right] in the order of `F.pad`: the last axis first."""
    if pad_type == "valid" or (pad_type == "custom" and pad is None):
        return (0, 0, 0, 0)
    if pad_type != "custom" or pad is None:
        raise ValueError(f"pad_type {pad_type} is not covered")
    top, bottom, left, right = pad.tolist()
    return (left, right, top, bottom)


def pair(values: Tensor | None) -> tuple[int, int]:
    """Strides or sizes along H and W; MIL's default is 1."""
    if values is None:
        return (1, 1)
    height, width = values.tolist()
    return (height, width)


def refuse_ceil_mode(ceil_mode: bool) -> None:
    if ceil_mode:
        raise ValueError("ceil_mode is not covered")


LAYERS: dict[str, Callable[..., Any]] = {
    "conv": _conv,
    "linear": _linear,
    "matmul": _matmul,
    "einsum": _einsum,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "upsample_bilinear": _upsample_bilinear,
    "resize_bilinear": _resize_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest,
    "classify": _classify,
}
