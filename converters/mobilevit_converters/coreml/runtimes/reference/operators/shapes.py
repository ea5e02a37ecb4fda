"""Operators that move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _reshape(x: Tensor, shape: Tensor) -> Tensor:
    """A 0 keeps the size of that axis, a -1 takes what is left."""
    return x.reshape([size or x.shape[axis] for axis, size in enumerate(shape.tolist())])


def _transpose(x: Tensor, perm: Tensor) -> Tensor:
    return x.permute(perm.tolist())


def _expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


def _concat(values: tuple[Tensor, ...], axis: int, interleave: bool = False) -> Tensor:
    if not interleave:
        return torch.cat(values, axis)
    axis %= values[0].ndim
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def _stack(values: tuple[Tensor, ...], axis: int) -> Tensor:
    return torch.stack(values, axis)


def _split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return torch.split(x, split_sizes.tolist(), axis)
    if num_splits is None:
        raise ValueError("neither num_splits nor split_sizes is given")
    return torch.split(x, x.shape[axis] // num_splits, axis)


def _slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    """x[begin:end:stride] for each axis; a mask lifts a limit, `squeeze_mask` takes the one element at `begin`."""
    none = [False] * x.ndim
    no_begin, no_end, single = (none if m is None else m.tolist() for m in (begin_mask, end_mask, squeeze_mask))
    steps = [1] * x.ndim if stride is None else stride.tolist()
    index: list[int | slice] = []
    for axis, (first, last, step) in enumerate(zip(begin.tolist(), end.tolist(), steps, strict=True)):
        if single[axis]:
            index.append(first)
        elif step < 1:
            raise ValueError(f"stride {step} is not covered")
        else:
            index.append(slice(None if no_begin[axis] else first, None if no_end[axis] else last, step))
    return x[tuple(index)]


def _gather(x: Tensor, indices: int | Tensor, axis: int = 0, batch_dims: int = 0) -> Tensor:
    """The slices of x at `indices` along `axis`; a negative index counts from the end."""
    if batch_dims:
        raise ValueError(f"batch_dims={batch_dims} is not covered")
    axis %= x.ndim
    index = torch.as_tensor(indices, dtype=torch.int64)
    picked = x.index_select(axis, index.flatten() % x.shape[axis])
    return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _tile(x: Tensor, reps: Tensor) -> Tensor:
    return x.repeat(reps.tolist())


def _reverse(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.flip(list(range(x.ndim)) if axes is None else axes.tolist())


def _pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """[B, C r r, H, W] -> [B, C, H r, W r]; of the channels' three indices the last is along W."""
    return F.pixel_shuffle(x, upscale_factor)


def _pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """The inverse: [B, C, H r, W r] -> [B, C r r, H, W]."""
    return F.pixel_unshuffle(x, downscale_factor)


def _pad(x: Tensor, pad: Tensor, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """MIL's pairs (before, after) are for the last axes in order; `F.pad` takes the last axis first."""
    pairs = pad.reshape(-1, 2).flip(0).flatten().tolist()
    return F.pad(x, pairs, mode, constant_val if mode == "constant" else None)


SHAPES: dict[str, Callable[..., Any]] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "concat": _concat,
    "stack": _stack,
    "split": _split,
    "slice_by_index": _slice_by_index,
    "gather": _gather,
    "tile": _tile,
    "reverse": _reverse,
    "pad": _pad,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
}
