"""Weights and images that need no storage: made from names and shapes alone, the same on every machine and version."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_STATISTICS = ("running_mean", "running_var")


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that depend on names and shapes alone, with no gain, bias or statistic at its neutral value.

    They are those of a network before its first pass in training mode: BatchNorm's statistics have nothing to do yet
    with what flows through it. For eval mode see `settled`.
    """
    return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    draw = _generator(name)
    if name.endswith("attention_biases"):
        values = draw.standard_normal(shape)  # a table: as large as the attention logits
    elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        values = draw.uniform(0.5, 1.5, shape)
    elif len(shape) > 1:
        values = draw.standard_normal(shape) * 1.4 / np.sqrt(np.prod(shape[1:]))
    else:
        values = draw.standard_normal(shape) * 0.2
    return torch.from_numpy(values.astype(np.float32))


def statistics(tensors: Mapping[str, Tensor]) -> Tensor:
    """The running means and variances of all BatchNorms, one after the other, in the order of their names."""
    return torch.cat([tensor for name, tensor in tensors.items() if name.endswith(_STATISTICS)])


def settled(made: Mapping[str, Tensor], after: Tensor) -> dict[str, Tensor]:
    """Weights for eval mode: with statistics near those of the data, so that no block drowns the others.

    `after` are the `statistics` after one pass over the images in training mode. They hold a tenth of the images' own;
    the result is these and a tenth of those in `made`, so that no variance is 0.
    """
    names = [name for name in made if name.endswith(_STATISTICS)]
    parts = after.split([len(made[name]) for name in names])
    return dict(made) | {name: (part - 0.89 * made[name]) / 0.1 for name, part in zip(names, parts, strict=True)}


def images(size: tuple[int, int], count: int = 3) -> Tensor:
    """Images in [0, 1], unlike in brightness, coarse patches and fine noise: [count, 3, H, W].

    The first ones do not depend on `count`.
    """
    rows, columns = (np.arange(side) * 5 // side for side in size)
    made = []
    for i in range(count):
        draw = _generator(f"image {i} {size[0]}x{size[1]}")
        color = draw.uniform(0, 1, (3, 1, 1))
        coarse = draw.uniform(0, 1, (3, 5, 5))[:, rows][:, :, columns]
        made.append((color + coarse + draw.uniform(0, 1, (3, *size))) / 3)
    return torch.from_numpy(np.stack(made).astype(np.float32))


def _generator(name: str) -> Any:
    """RandomState, because NumPy promises that its numbers never change."""
    return np.random.RandomState(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little"))
