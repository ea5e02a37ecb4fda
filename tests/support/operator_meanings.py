"""What operators of neural networks are documented to compute, in numpy."""

from __future__ import annotations

import itertools
import math

import numpy as np


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def erf(x):
    return np.vectorize(math.erf)(x.astype(np.float64))


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def normalize(x, axes, eps):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def windows(x, kernel, stride, pad=(0, 0, 0, 0), fill=0.0, dilation=(1, 1)):
    """Yield (i, j, window [B, C, kh, kw]) for each output position."""
    x = np.pad(x, ((0, 0), (0, 0), pad[:2], pad[2:]), constant_values=fill)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    rows, columns = ((size - r) // s + 1 for size, r, s in zip(x.shape[2:], reach, stride, strict=True))
    for i, j in itertools.product(range(rows), range(columns)):
        top, left = i * stride[0], j * stride[1]
        yield i, j, x[:, :, top : top + reach[0] : dilation[0], left : left + reach[1] : dilation[1]]


def assemble(positions):
    positions = list(positions)
    out = np.zeros((*positions[0][2].shape, positions[-1][0] + 1, positions[-1][1] + 1))
    for i, j, value in positions:
        out[:, :, i, j] = value
    return out


def convolve(x, weight, bias, stride, pad, dilation, groups):
    def at(window):
        parts = np.split(window, groups, axis=1), np.split(weight, groups)
        return np.concatenate([np.einsum("bchw,dchw->bd", p, w) for p, w in zip(*parts, strict=True)], axis=1)  # [B, D]

    moved = windows(x, weight.shape[2:], stride, pad, dilation=dilation)
    return assemble((i, j, at(w)) for i, j, w in moved) + bias[:, None, None]


def pool(x, reduce, kernel, stride, pad, fill):
    return assemble((i, j, reduce(w, axis=(2, 3))) for i, j, w in windows(x, kernel, stride, pad, fill))


def bilinear(x, size, aligned):
    """The grid of the operator reference: spacing (Xin - 1) / (Xout - 1), or Xin / Xout with half-pixel centers."""

    def weights(source, target):
        i = np.arange(target)
        grid = i * (source - 1) / (target - 1) if aligned else (i + 0.5) * source / target - 0.5
        grid = np.clip(grid, 0, source - 1)
        return np.maximum(0, 1 - np.abs(grid[:, None] - np.arange(source)))  # [target, source]

    return np.einsum("ih,bchw,jw->bcij", weights(x.shape[2], size[0]), x, weights(x.shape[3], size[1]))
