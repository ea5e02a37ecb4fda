"""What each operator of a Vulkan delegate means: what ExecuTorch 1.5's shaders compute, not what ATen's name says.

Functions take float32 tensors and Python's numbers and lists in the order of the file, and compute without rounding to
float16; the program does that. What a function does not cover it refuses with ValueError.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_MAX = torch.finfo(torch.float32).max


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    low: float | None = None,
    high: float | None = None,
) -> Tensor:
    """A convolution of one map, clamped where limits are given. The shaders know no other groups than these."""
    if x.dim() != 4 or x.shape[0] != 1 or transposed or any(output_padding):
        raise ValueError(f"a plain convolution of one map, not of {tuple(x.shape)}")
    if groups != 1 and not groups == x.shape[1] == weight.shape[0]:
        raise ValueError(f"a convolution in {groups} groups that is not depthwise")
    return _clamp(F.conv2d(x, weight, bias, stride, padding, dilation, groups), low, high)


def _clamp(x: Tensor, low: float | None, high: float | None) -> Tensor:
    """The file has no limit as the largest double, which a float32 reads as infinity."""
    limits = (
        math.copysign(math.inf, bound) if abs(bound) > _MAX else bound for bound in (low, high) if bound is not None
    )
    return torch.clamp(x, *limits) if low is not None and high is not None else x


def _gelu(x: Tensor, approximate: str) -> Tensor:
    """The shader ignores `approximate`: it is the tanh approximation in any case."""
    return F.gelu(x, approximate="tanh")


def _native_layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    if weight is None or bias is None or len(shape) != 1:
        raise ValueError("a norm over the last axis with gain and bias")
    return torch.native_layer_norm(x, shape, weight, bias, eps)


def _mean(x: Tensor, axes: list[int], keep: bool, dtype: None) -> Tensor:
    if not keep and [axis % x.dim() for axis in axes] != [x.dim() - 1]:
        raise ValueError(f"a mean over {axes} that keeps no axis")
    return x.mean(axes, keep)


def _upsample(x: Tensor, size: list[int] | None, align_corners: bool, scales: list[float] | None) -> Tensor:
    return F.interpolate(x, size=size, scale_factor=scales, mode="bilinear", align_corners=align_corners)


def _max_pool(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int] | None = None,
    dilation: list[int] | None = None,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    if any(padding or ()) or ceil_mode or any(step != 1 for step in dilation or ()):
        raise ValueError("a maximum over whole windows, without padding or dilation")
    highest, places = F.max_pool2d(x, kernel, stride, return_indices=True)
    return highest, places.float()


def _scaled(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x, y, alpha=1: function(x, y if alpha == 1 else alpha * y)


OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "aten._softmax.default": lambda x, axis, _: x.softmax(axis),
    "aten.add.Tensor": _scaled(operator.add),
    "aten.bmm.default": torch.bmm,
    "aten.cat.default": lambda parts, axis=0: torch.cat(parts, axis),
    "aten.clone.default": lambda x, _: x,
    "aten.constant_pad_nd.default": lambda x, pad, value: F.pad(x, pad, value=value),
    "aten.convolution.default": _convolution,
    "aten.expand_copy.default": lambda x, size, _=False: x.expand(size),
    "aten.gelu.default": _gelu,
    "aten.hardtanh.default": _clamp,
    "aten.linear.default": F.linear,
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.mean.dim": _mean,
    "aten.mul.Tensor": operator.mul,
    "aten.native_layer_norm.default": _native_layer_norm,
    "aten.permute_copy.default": torch.permute,
    "aten.relu.default": torch.relu,
    "aten.rsqrt.default": torch.rsqrt,
    "aten.sigmoid.default": torch.sigmoid,
    "aten.slice_copy.Tensor": torch.ops.aten.slice.Tensor,
    "aten.squeeze_copy.dims": torch.squeeze,
    "aten.sub.Tensor": _scaled(operator.sub),
    "aten.tanh.default": torch.tanh,
    "aten.unsqueeze_copy.default": torch.unsqueeze,
    "aten.upsample_bilinear2d.vec": _upsample,
    "aten.view_copy.default": lambda x, size: x.reshape(size),
    "dim_order_ops._to_dim_order_copy.default": lambda x, *_: x,  # to the type of its result
    "et_vk.conv_with_clamp.default": _convolution,
    "et_vk.prepack.default": lambda x: x,
}


def call(name: str, arguments: Sequence[Any]) -> tuple[Tensor, ...]:
    """The results of the operator `name`. Raises KeyError for an unknown one, and what its function raises."""
    results = OPERATORS[name](*arguments)
    return results if isinstance(results, tuple) else (results,)
