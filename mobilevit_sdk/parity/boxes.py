"""How near boxes are: in pixels of the picture that the network sees, and by how much they overlap."""

from __future__ import annotations

import numpy as np


def pixel_differences(
    expected: np.ndarray, actual: np.ndarray, image_sizes: np.ndarray | tuple[int, int]
) -> np.ndarray:
    """The largest difference of each box, in pixels. Shapes: [..., 4], twice -> [...].

    Boxes are center x, center y, width and height as shares of an image of (height, width) pixels, or of images of
    sizes [cases, 2] for boxes [cases, ..., 4]. A box that is not finite is infinitely far.
    """
    sides = np.asarray(image_sizes)[..., [1, 0, 1, 0]]
    sides = sides.reshape(*sides.shape[:-1], *[1] * (expected.ndim - sides.ndim), 4)
    with np.errstate(invalid="ignore", over="ignore"):  # an artifact may have overflown
        apart = np.abs(actual.astype(np.float64) - expected) * sides
    farthest: np.ndarray = np.where(np.isfinite(apart), apart, np.inf).max(axis=-1)
    return farthest


def overlaps(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Intersection over union of each pair of boxes, from 0 to 1. Shapes: [..., 4], twice -> [...].

    Two boxes that are the same have 1, also where they have no area; one that is not finite has 0.
    """
    finite = np.isfinite(actual).all(axis=-1)
    one, other = (np.where(finite[..., None], each, 0).astype(np.float64) for each in (expected, actual))
    low = np.maximum(*(each[..., :2] - each[..., 2:] / 2 for each in (one, other)))
    high = np.minimum(*(each[..., :2] + each[..., 2:] / 2 for each in (one, other)))
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    union = sum(each[..., 2:].prod(axis=-1) for each in (one, other)) - shared
    ratio = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    same: np.ndarray = np.where((one == other).all(axis=-1), 1.0, ratio) * finite
    return same
