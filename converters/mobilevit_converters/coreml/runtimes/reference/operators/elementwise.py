"""Operators that work on each element, and reductions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Number = float | Tensor


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Tensor]:
    """With broadcasting; either side may be a scalar constant."""

    def apply(x: Number, y: Number) -> Tensor:
        return torch.as_tensor(function(torch.as_tensor(x), torch.as_tensor(y)))

    return apply


def _inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    return 1 / (x + epsilon)


def _rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    return torch.rsqrt(x + epsilon)


def _log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    return torch.log(x + epsilon)


def _gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate={"EXACT": "none", "TANH_APPROXIMATION": "tanh"}[mode])


def _sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


def _clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.clamp(alpha, beta)


def _leaky_relu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x >= 0, x, alpha * x)


def _thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """x where it reaches alpha, else 0."""
    return torch.where(x >= alpha, x, 0.0)


def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.softmax(axis)


def _cast(x: Number, dtype: str) -> Tensor:
    """The program rounds to the type it states, which is `dtype`."""
    return torch.as_tensor(x)


def _select(cond: Tensor, a: Number, b: Number) -> Tensor:
    return torch.where(torch.as_tensor(cond), a, b)


def _reduction(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Over `axes`, over all of them when none are given."""

    def reduce(x: Tensor, axes: Tensor | None = None, keep_dims: bool = False) -> Tensor:
        return function(x, tuple(range(x.ndim)) if axes is None else tuple(axes.tolist()), keep_dims)

    return reduce


ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "add": _binary(operator.add),
    "sub": _binary(operator.sub),
    "mul": _binary(operator.mul),
    "real_div": _binary(operator.truediv),
    "pow": _binary(torch.pow),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "equal": _binary(torch.eq),
    "not_equal": _binary(torch.ne),
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "abs": lambda x: x.abs(),
    "erf": lambda x: x.erf(),
    "exp": lambda x: x.exp(),
    "identity": lambda x: x,
    "logical_not": lambda x: x.logical_not(),
    "relu": lambda x: x.relu(),
    "relu6": lambda x: x.clamp(0, 6),
    "sigmoid": lambda x: x.sigmoid(),
    "silu": lambda x: x * x.sigmoid(),
    "sqrt": lambda x: x.sqrt(),
    "square": lambda x: x * x,
    "tanh": lambda x: x.tanh(),
    "inverse": _inverse,
    "rsqrt": _rsqrt,
    "log": _log,
    "gelu": _gelu,
    "sigmoid_hard": _sigmoid_hard,
    "clip": _clip,
    "leaky_relu": _leaky_relu,
    "thresholded_relu": _thresholded_relu,
    "softmax": _softmax,
    "cast": _cast,
    "select": _select,
    "reduce_mean": _reduction(torch.mean),
    "reduce_sum": _reduction(torch.sum),
    "reduce_max": _reduction(torch.amax),
    "reduce_min": _reduction(torch.amin),
    "reduce_l2_norm": _reduction(lambda x, axes, keep_dims: x.square().sum(axes, keep_dims).sqrt()),
}
