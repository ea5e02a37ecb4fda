"""From the values of a tensor, observed batch by batch, to the range that 8 bits should cover."""

from __future__ import annotations

import math

import numpy as np

from mobilevit_sdk.formats.quantization import QuantizationRecipe

BINS = 4096
LEVELS = 256
_AT_ONCE = 1 << 15  # values: few enough that what is computed of them stays in the cache
_CLIPS = np.geomspace(1.0, 0.02, 80)  # shares of either end that the entropy method tries; of equals, the first
_MIN_RANGE = 1e-6  # a tensor with a narrower range is zero up to rounding


class RangeEstimator:
    """The range of one tensor, from a histogram that widens with its values: memory does not grow with the images.

    "minmax" covers every value; "percentile" leaves out a share of them at either end; "entropy" clips where the
    distribution of the quantized values is nearest to that of all values (Kullback-Leibler; Migacz, "8-bit inference
    with TensorRT", GTC 2017), first at the end farther from zero. Ranges contain zero: padding and ReLU need it exact.
    """

    def __init__(self, recipe: QuantizationRecipe) -> None:
        self._method, self._percentile = recipe.ranges, recipe.percentile
        self._low, self._high = math.inf, -math.inf
        self._counts = np.zeros(BINS, np.int64)
        self._edge, self._width = 0.0, 0.0  # of the first bin; both finite once two values differ

    @property
    def seen(self) -> bool:
        """Whether any value was observed."""
        return self._low <= self._high

    def observe(self, values: np.ndarray) -> None:
        """Take in the values of a tensor of any shape. Raises ValueError where one is not finite."""
        values = np.asarray(values, np.float32).ravel()
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("values are not finite, so they have no range")
        before = (self._low, self._high)
        self._low, self._high = min(low, self._low), max(high, self._high)
        if self._method == "minmax":
            return
        self._make_room(before)
        for start in range(0, values.size, _AT_ONCE):
            index = ((values[start : start + _AT_ONCE] - self._edge) / self._width).astype(np.int64)
            self._counts += np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)

    def range(self) -> tuple[float, float]:
        """Low and high, with low <= 0 <= high and low < high. Raises ValueError when nothing was observed.

        A tensor that was always zero up to rounding, such as one behind a dead ReLU, gets the range 0 to 1: no image
        shows how far it reaches, and XNNPACK rejects a layer whose output steps are much finer than its products.
        """
        if not self.seen:
            raise ValueError("no values were observed")
        low, high = self._low, self._high
        if self._method == "percentile":
            low, high = self._percentiles()
        elif self._method == "entropy":
            low, high = self._least_divergence()
        low, high = min(low, 0.0), max(high, 0.0)
        return (low, high) if high - low > _MIN_RANGE else (0.0, 1.0)

    def _make_room(self, before: tuple[float, float]) -> None:
        """Widen the histogram until it covers the lowest and the highest value, merging bins in pairs."""
        if not self._width:  # the first values
            span = (self._high - self._low) or max(abs(self._high), 1.0) * 1e-6
            self._edge, self._width = self._low, span / (BINS - 1)
            return
        if (self._low, self._high) == before:
            return
        while self._high >= self._edge + BINS * self._width or self._low < self._edge:
            pairs = self._counts.reshape(-1, 2).sum(1)
            empty = np.zeros(BINS // 2, np.int64)
            if self._low < self._edge:  # the new values lie below: the old bins move to the upper half
                self._edge -= BINS * self._width
                self._counts = np.concatenate((empty, pairs))
            else:
                self._counts = np.concatenate((pairs, empty))
            self._width *= 2

    def _percentiles(self) -> tuple[float, float]:
        below = np.cumsum(self._counts)
        spare = below[-1] * (1 - self._percentile / 100)
        first = int(np.searchsorted(below, spare, side="right"))
        last = int(np.searchsorted(below, below[-1] - spare))
        return self._clipped(self._edge + first * self._width, self._edge + (last + 1) * self._width)

    def _least_divergence(self) -> tuple[float, float]:
        centers = self._edge + (np.arange(BINS) + 0.5) * self._width
        ends = [min(self._low, 0.0), max(self._high, 0.0)]
        for end in sorted((0, 1), key=lambda end: -abs(ends[end])):
            full, divergences = ends[end], []
            for share in _CLIPS:
                ends[end] = full * float(share)
                divergences.append(_divergence(self._counts, centers, ends[0], ends[1]))
            ends[end] = full * float(_CLIPS[int(np.argmin(divergences))])
        return self._clipped(ends[0], ends[1])

    def _clipped(self, low: float, high: float) -> tuple[float, float]:
        return max(low, self._low), min(high, self._high)


def _divergence(counts: np.ndarray, centers: np.ndarray, low: float, high: float) -> float:
    """KL(P || Q): P, the values clipped to the range; Q, each level's values spread over its bins that hold any."""
    inside = (centers >= low) & (centers <= high)
    if not inside.any() or high <= low:
        return math.inf
    kept = counts[inside].astype(np.float64)
    p = kept.copy()
    p[0] += counts[centers < low].sum()
    p[-1] += counts[centers > high].sum()
    level = np.minimum(((centers[inside] - low) / (high - low) * LEVELS).astype(int), LEVELS - 1)
    held = np.bincount(level, weights=kept, minlength=LEVELS)
    filled = np.bincount(level, weights=kept > 0, minlength=LEVELS)
    q = np.where(kept > 0, held[level] / np.maximum(filled[level], 1), 0)
    p, q = p / p.sum(), q / max(q.sum(), 1)
    used = p > 0
    return float((p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))).sum())
