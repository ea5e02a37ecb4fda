"""Labeled pictures for tests of detection: circles, squares and triangles, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from shapes import CLASSES, SIDE, draw_shapes

from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.data.objects import Objects


@dataclass(frozen=True)
class _Encoded:
    rows: tuple[bytes, ...]

    def __call__(self, index: int) -> bytes:
        return self.rows[index]

    def at(self, rows: object) -> _Encoded:
        return _Encoded(tuple(self.rows[row] for row in rows))  # type: ignore[attr-defined]


def shape_pictures(count: int, seed: int) -> ImageDataset:
    """As `write_shapes` writes them, in memory."""
    random = np.random.default_rng(seed)
    drawn = [draw_shapes(random) for _ in range(count)]
    objects = [
        Objects(np.array(boxes, np.float32), np.array(classes), np.zeros(len(classes), bool), (SIDE, SIDE))
        for _, boxes, classes in drawn
    ]
    names = [f"row {index}" for index in range(count)]
    encoded = _Encoded(tuple(each for each, _, _ in drawn))
    return ImageDataset(Path(f"shapes-{seed}"), names, encoded, None, CLASSES, is_checked=True, objects=objects)
