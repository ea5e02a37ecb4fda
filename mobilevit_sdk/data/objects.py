"""Labeled objects in pictures: their boxes and classes, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.text import one_line, shorten

LAYOUT = "a box is expected as x and y of its upper left corner, width and height, in pixels"
_ROUNDING = 0.05  # pixels beyond a picture that come from rounding to two decimals, and are not worth a note


@dataclass(frozen=True, eq=False)
class Objects:
    """The labeled objects of one picture.

    `boxes`: float32 [n, 4], x and y of the upper left corner, width and height in pixels of the upright picture.
    `classes`: int64 [n], indices into the dataset's `class_names`. `crowd`: bool [n], COCO's iscrowd: a region of many,
    which is neither learned nor counted as missed. `size`: width and height of the upright picture in pixels, where
    known; always known after `ImageDataset.checked`.
    """

    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """The objects of all pictures in one piece, sorted by picture.

    `counts`: how many each picture has; `boxes` float64 [n, 4], `classes` int64 [n] and `crowd` bool [n] as in Objects;
    `sizes`: of each picture. `names` are those of the pictures.
    """

    names: Sequence[str]
    counts: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    sizes: Sequence[tuple[int, int] | None]

    @classmethod
    def of(cls, objects: Sequence[Objects], names: Sequence[str]) -> ObjectTable:
        """The objects of pictures, of which there is at least one."""
        return cls(
            names,
            np.array([len(each) for each in objects]),
            np.concatenate([each.boxes for each in objects]).astype(np.float64),
            np.concatenate([each.classes for each in objects]),
            np.concatenate([each.crowd for each in objects]),
            [each.size for each in objects],
        )

    def split(self) -> list[Objects]:
        """The objects of each picture."""
        with np.errstate(over="ignore"):  # beyond float32 is infinite
            boxes = self.boxes.astype(np.float32)
        ends = np.cumsum(self.counts)
        spans = map(slice, (ends - self.counts).tolist(), ends.tolist())
        return [
            Objects(boxes[span], self.classes[span], self.crowd[span], size)
            for span, size in zip(spans, self.sizes, strict=True)
        ]

    def check(self, class_names: Sequence[str] | None) -> None:
        """Raise RequestError, without a path, for boxes that are no numbers or no pixels, and for unknown classes."""
        if (missing := np.isnan(self.boxes).any(1)).any():
            raise RequestError(f"{self._owners(missing)[0]} has a box with a coordinate that is missing or NaN")
        known = len(class_names) if class_names is not None else np.iinfo(np.int64).max
        if (unknown := (self.classes < 0) | (self.classes >= known)).any():
            what = f"{self._owners(unknown)[0]} has an object of category {self.classes[unknown.argmax()]}"
            expected = "categories are indices from 0" if class_names is None else f"the names are of 0 to {known - 1}"
            raise RequestError(f"{what}, but {expected}")
        sound = _sound(self.boxes)
        if sound.any() and self.boxes[sound].max() <= 1:
            raise RequestError(f"no box reaches beyond 1: they look like shares of the picture; {LAYOUT}")

    def fit(self) -> tuple[ObjectTable, tuple[str, ...]]:
        """The objects clipped to their pictures, whose sizes are known, and notes of what was clipped and left out.

        Left out are boxes outside the picture, without area or not finite. Raises RequestError, without a path, where
        most boxes reach beyond their pictures, as corners (x1, y1, x2, y2) do.
        """
        pictures = self._pictures()
        sound = _sound(self.boxes)
        boxes = np.where(sound[:, None], self.boxes, 0)
        sizes = np.array(self.sizes, np.float64).reshape(-1, 2)[pictures]
        _check_layout(boxes[sound], sizes[sound])
        corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        inside = np.clip(corners, 0, np.hstack([sizes, sizes]))
        excess = np.abs(inside - corners).max(1)
        clipped = np.hstack([inside[:, :2], inside[:, 2:] - inside[:, :2]])
        boxes = np.where(excess[:, None] > 0, clipped, boxes)
        kept = np.all(boxes[:, 2:].astype(np.float32) > 0, axis=1)
        notes = []
        if (cut := kept & (excess > _ROUNDING)).any():
            notes.append(f"{_share(cut)} clipped to the picture, the first in {self._owners(cut)[0]}")
        if not kept.all():
            notes.append(
                f"{_share(~kept)} left out, outside the picture, without area or not finite: "
                f"{shorten(self._owners(~kept), 10)}"
            )
        counts = np.bincount(pictures[kept], minlength=len(self.counts))
        fitted = ObjectTable(self.names, counts, boxes[kept], self.classes[kept], self.crowd[kept], self.sizes)
        return fitted, tuple(notes)

    def _pictures(self) -> np.ndarray:
        """int64 [n], the picture of each object."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def _owners(self, mask: np.ndarray) -> list[str]:
        """The names of the pictures of these objects, each once."""
        return [one_line(self.names[picture]) for picture in np.unique(self._pictures()[mask])]


def _sound(boxes: np.ndarray) -> np.ndarray:
    """bool [n]: the boxes that are finite and have an area."""
    finite: np.ndarray = np.isfinite(boxes).all(1)
    return finite & (boxes[:, 2:] > 0).all(1)


def _share(mask: np.ndarray) -> str:
    return f"{mask.sum():,} of {len(mask):,} box{'es' * (len(mask) != 1)}"


def _check_layout(boxes: np.ndarray, sizes: np.ndarray) -> None:
    """Raise RequestError where most of the boxes reach beyond pictures of these sizes, [n, 4] and [n, 2]."""
    beyond = (boxes[:, :2] + boxes[:, 2:] > sizes + 1).any(1)
    if len(boxes) < 3 or beyond.mean() <= 0.5:
        return
    # One object in a corner of the picture tells nothing, but corners in all pictures would lie right.
    as_corners = (boxes[:, 2:] > boxes[:, :2]).all(1) & (boxes[:, 2:] <= sizes + 1).all(1)
    what = f"{_share(beyond)} reach beyond their pictures"
    if as_corners.mean() > 0.9:
        raise RequestError(f"{what}: they look like corners, x1, y1, x2, y2; {LAYOUT}")
    if len(boxes) >= 20:
        raise RequestError(f"{what}: they do not belong to pictures of this size; {LAYOUT} of the upright picture")
