"""Whether two arrays hold the same values in another order of axes, and which order it is.

Formats keep images with channels last, heads within the batch, tokens with or without an axis of 1: one value has as
many layouts as there are formats.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mobilevit_sdk.parity.metrics import sqnr_db

SAMPLE = 512  # elements that are compared before all are


@dataclass(frozen=True)
class AxisPermutation:
    """How the values of a tap lie in relation to those of an operator's result of `shape`.

    The tap, seen as `tap_shape` with its axes in the order `tap_axes` and then read from front to back, is the result
    with its axes in the order `axes`.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    tap_shape: tuple[int, ...]
    tap_axes: tuple[int, ...]

    def to_result(self, tap: np.ndarray) -> np.ndarray:
        """The values of a tap in the layout of the operator's result."""
        ordered = tap.reshape(self.tap_shape).transpose(self.tap_axes)
        permuted = ordered.reshape([self.shape[axis] for axis in self.axes])
        return permuted.transpose(np.argsort(self.axes))

    def tap_positions(self, positions: np.ndarray) -> np.ndarray:
        """Where in the tap, both read from front to back, the values at `positions` of the result are."""
        place = np.unravel_index(positions, self.shape)
        ordered = [self.shape[axis] for axis in self.axes]
        permuted = np.ravel_multi_index([place[axis] for axis in self.axes], ordered)
        in_tap = np.unravel_index(permuted, [self.tap_shape[axis] for axis in self.tap_axes])
        back = np.argsort(self.tap_axes)
        return np.ravel_multi_index([in_tap[axis] for axis in back], self.tap_shape)


def layouts(shape: tuple[int, ...], tap_shape: tuple[int, ...]) -> Iterator[AxisPermutation]:
    """Ways in which a tap could hold a result: the plain one first, then either with its axes in another order.

    Axes of 1 are left out: to move them changes nothing.
    """
    shape, tap_shape = (tuple(size for size in each if size > 1) or (1,) for each in (shape, tap_shape))
    same, tap_same = tuple(range(len(shape))), tuple(range(len(tap_shape)))
    for axes in itertools.permutations(tap_same):
        yield AxisPermutation(shape, same, tap_shape, axes)
    for axes in itertools.permutations(same):
        if axes != same:
            yield AxisPermutation(shape, axes, tap_shape, tap_same)


def best_permutation(result: np.ndarray, tap: np.ndarray, min_db: float) -> tuple[AxisPermutation, float] | None:
    """The layout in which `tap` is nearest to `result`, and how near, as SQNR in dB; None below `min_db`."""
    if result.size != tap.size:
        return None
    best: tuple[AxisPermutation, float] | None = None
    picked = np.linspace(0, result.size - 1, min(SAMPLE, result.size)).astype(np.int64)
    values = result.ravel()[picked]
    for layout in layouts(result.shape, tap.shape):
        if sqnr_db(values, tap.ravel()[layout.tap_positions(picked)]) < min_db - 10:
            continue
        found = sqnr_db(result.ravel(), layout.to_result(tap).ravel())
        if found >= min_db and (best is None or found > best[1] + 1e-6):
            best = layout, found
    return best
