"""Encoded images with or without labels, wherever they lie: what `open_dataset` gives."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from PIL import Image, UnidentifiedImageError

from mobilevit_sdk.data.pictures import decode_picture, image_formats
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Progress, counted, silent
from mobilevit_sdk.text import count, shorten

ClassOrder = Literal["lexicographic", "natural"]
_CHUNK = 64  # images between two steps of progress


class Reader(Protocol):
    """Reads encoded images by their index; can be pickled, so that a dataset travels to other processes."""

    def __call__(self, index: int) -> bytes: ...

    def at(self, rows: Sequence[int]) -> Reader:
        """A reader of these images only, in that order."""
        ...


@dataclass(frozen=True)
class ImageDataset:
    """Encoded images, decoded one at a time when asked for.

    `labels[i]` is the class index of image i, or None for unlabeled data; `class_names` are in index order, or None
    where nobody wrote them down. `class_order` is the order that was asked for where the classes are folders, and
    `notes` say what was left out. `skip_broken` says what `checked` does with images that cannot be decoded.
    """

    source: Path
    names: list[str]
    read: Reader
    labels: list[int] | None
    class_names: tuple[str, ...] | None
    class_order: ClassOrder | None = None
    notes: tuple[str, ...] = ()
    skip_broken: bool = False
    is_checked: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Image.Image:
        """Image `index` as `to_rgb` gives it. Raises RequestError naming it when it cannot be decoded."""
        try:
            return decode_picture(self.read(index))
        except UnidentifiedImageError as error:
            known = ", ".join(image_formats())
            raise RequestError(
                f"{self.source}: {self.names[index]} is not an image of a known format ({known})"
            ) from error
        except Exception as error:  # Pillow's decoders raise many kinds on broken files: OSError, SyntaxError, ...
            raise RequestError(f"{self.source}: {self.names[index]} cannot be decoded ({error})") from error

    def checked(self, progress: Progress = silent) -> ImageDataset:
        """These images, every one of which decodes, or with `skip_broken` those that do; `notes` name the others.

        Decodes each once, in threads, and nothing where that was done before; `progress` counts them. Raises
        RequestError that names all broken images at once, and where none is left.
        """
        if self.is_checked:
            return self
        broken: dict[int, str] = {}
        with ThreadPoolExecutor() as pool:
            for start in counted(range(0, len(self), _CHUNK), "checking images", progress):
                rows = range(start, min(start + _CHUNK, len(self)))
                broken |= {
                    row: problem for row, problem in zip(rows, pool.map(self._problem, rows), strict=True) if problem
                }
        if not broken:
            return dataclasses.replace(self, is_checked=True)
        what = f"{self.source}: {len(broken):,} of {count(self, 'image')} cannot be read"
        problems = shorten(list(broken.values()), 100)
        if not self.skip_broken:
            raise RequestError(f"{what}: {problems}; give `skip_broken` to leave out such images")
        left = self.at([row for row in range(len(self)) if row not in broken])
        if not len(left):
            raise RequestError(f"{what}: {problems}")
        return dataclasses.replace(left, notes=(*self.notes, f"{what}, left out: {problems}"), is_checked=True)

    def _problem(self, index: int) -> str | None:
        try:
            self.image(index)
        except RequestError as error:
            return str(error).removeprefix(f"{self.source}: ")
        return None

    def typical_side(self) -> int:
        """The median of the images' shorter sides, in pixels, from at most 64 of them."""
        return statistics.median_low(min(self.image(row).size) for row in _spread(len(self), 64))

    def sample(self, count: int) -> ImageDataset:
        """At most `count` of the images, spread evenly over the data, so that no class is left out for its name."""
        return self.at(_spread(len(self), count))

    def at(self, rows: Sequence[int]) -> ImageDataset:
        """The images `rows`, in that order."""
        return dataclasses.replace(
            self,
            names=[self.names[row] for row in rows],
            read=self.read.at(rows),
            labels=None if self.labels is None else [self.labels[row] for row in rows],
        )


def _spread(total: int, count: int) -> list[int]:
    count = min(total, count)
    return [index * total // count for index in range(count)]
