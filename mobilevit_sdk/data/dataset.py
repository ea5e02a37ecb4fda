"""Encoded images with or without labels, wherever they lie: what `open_dataset` gives."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from PIL import Image, UnidentifiedImageError

from mobilevit_sdk.data.objects import Objects, ObjectTable
from mobilevit_sdk.data.pictures import decode_picture, image_formats, stored_size
from mobilevit_sdk.data.storage import RowNames, Storage
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import Address
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

    `labels[i]` is the class index of image i, or None for unlabeled data; `objects[i]` are the labeled boxes in it, or
    None. `class_names` are those of the labels or the objects in index order, or None where nobody wrote them down.
    `class_order` is the order that was asked for where the classes are folders, and `notes` say what was left out.
    `skip_broken` says what `checked` does with images that cannot be decoded. `storage` is that of images which are
    read from it whenever they are needed, neighbors at once; those of others are in memory, or files of their own.
    """

    source: Path | Address
    names: Sequence[str]
    read: Reader
    labels: list[int] | None
    class_names: tuple[str, ...] | None
    class_order: ClassOrder | None = None
    notes: tuple[str, ...] = ()
    skip_broken: bool = False
    is_checked: bool = False
    objects: list[Objects] | None = None
    storage: Storage | None = None

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

        Objects lie inside their pictures, of which the size is known: boxes are clipped, and those outside, without
        area or not finite are left out, and noted. Decodes each image once, in threads, and nothing where that was done
        before; `progress` counts them. Raises RequestError that names all broken images at once, and where none is
        left; a picture of another size than its objects were written for counts as broken. Raises it too where most
        boxes reach beyond their pictures.
        """
        if self.is_checked:
            return self
        sizes: dict[int, tuple[int, int]] = {}
        broken: dict[int, str] = {}
        with ThreadPoolExecutor() as pool:
            for start in counted(range(0, len(self), _CHUNK), "checking images", progress):
                rows = range(start, min(start + _CHUNK, len(self)))
                for row, found in zip(rows, pool.map(self._size_or_problem, rows), strict=True):
                    if isinstance(found, str):
                        broken[row] = found
                    else:
                        sizes[row] = found
        left = self._without(broken) if broken else self
        return dataclasses.replace(left._with_sizes(list(sizes.values())), is_checked=True)

    def _without(self, broken: dict[int, str]) -> ImageDataset:
        what = (
            f"{self.source}: {len(broken):,} of {count(self, 'image')} cannot be {'used' if self.objects else 'read'}"
        )
        problems = shorten(list(broken.values()), 100)
        if not self.skip_broken:
            raise RequestError(f"{what}: {problems}; give `skip_broken` to leave out such images")
        left = self.at([row for row in range(len(self)) if row not in broken])
        if not len(left):
            raise RequestError(f"{what}: {problems}")
        return dataclasses.replace(left, notes=(*self.notes, f"{what}, left out: {problems}"))

    def _with_sizes(self, sizes: list[tuple[int, int]]) -> ImageDataset:
        if not self.objects:
            return self
        objects = [dataclasses.replace(each, size=size) for each, size in zip(self.objects, sizes, strict=True)]
        try:
            fitted, notes = ObjectTable.of(objects, self.names).fit()
        except RequestError as error:
            raise RequestError(f"{self.source}: {error}") from error
        noted = (*self.notes, *(f"{self.source}: {note}" for note in notes))
        return dataclasses.replace(self, objects=fitted.split(), notes=noted)

    def _size_or_problem(self, index: int) -> tuple[int, int] | str:
        try:
            size = self.image(index).size
        except RequestError as error:
            return str(error).removeprefix(f"{self.source}: ")
        written = self.objects[index].size if self.objects else None
        if written is None or written == size:
            return size
        said = f"{self.names[index]} is {size[0]}x{size[1]} pixels, but said to be {written[0]}x{written[1]}"
        if stored_size(self.read(index)) == written:
            said += ", its size before its EXIF orientation is applied; boxes belong to the upright picture"
        return said

    def typical_side(self) -> int:
        """The median of the images' shorter sides, in pixels, from at most 64 of them."""
        rows = _spread(len(self), 64)
        if self.storage is not None:  # from four blocks
            firsts = [rows[index] for index in _spread(len(rows), 4)]
            rows = [row for first in firsts for row in range(first, min(first + 16, len(self)))]
        return statistics.median_low(min(self.image(row).size) for row in rows)

    def sample(self, count: int) -> ImageDataset:
        """At most `count` of the images, spread evenly over the data, so that no class is left out for its name."""
        return self.at(_spread(len(self), count))

    def at(self, rows: Sequence[int]) -> ImageDataset:
        """The images `rows`, in that order."""
        return dataclasses.replace(
            self,
            names=self.names.at(rows) if isinstance(self.names, RowNames) else [self.names[row] for row in rows],
            read=self.read.at(rows),
            labels=None if self.labels is None else [self.labels[row] for row in rows],
            objects=None if self.objects is None else [self.objects[row] for row in rows],
            storage=None if self.storage is None else self.storage.at(rows),
        )


def with_objects(
    images: ImageDataset, read: Callable[[], tuple[list[Objects], tuple[str, ...] | None]], needed: bool
) -> ImageDataset:
    """The images with the objects and class names that `read` gives, without objects and with a note where it fails.

    Raises the RequestError of `read`, with the path, if they are `needed`.
    """
    try:
        objects, class_names = read()
    except RequestError as error:
        if needed:
            raise RequestError(f"{images.source}: {error}") from error
        return dataclasses.replace(images, notes=(*images.notes, f"{images.source}: objects not read: {error}"))
    return dataclasses.replace(images, objects=objects, class_names=class_names)


def _spread(total: int, count: int) -> list[int]:
    count = min(total, count)
    return [index * total // count for index in range(count)]
