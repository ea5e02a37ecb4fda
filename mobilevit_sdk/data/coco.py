"""Pictures with labeled objects as a COCO JSON names them, and those of a folder with a `metadata.jsonl`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mobilevit_sdk.data.dataset import ImageDataset, with_objects
from mobilevit_sdk.data.object_columns import read_objects
from mobilevit_sdk.data.objects import LAYOUT, Objects, ObjectTable
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import decode_json, is_file, is_there
from mobilevit_sdk.text import count, one_line, shorten

_IN_FOLDER, _METADATA = "_annotations.coco.json", "metadata.jsonl"  # Roboflow's and Hugging Face's


class _Image(msgspec.Struct, gc=False):
    id: int | str
    file_name: str
    width: float | None = None
    height: float | None = None


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class _Annotation(msgspec.Struct, gc=False):
    id: int | str | None = None
    image_id: int | str | None = None
    category_id: int | None = None
    bbox: list[float] | None = None
    iscrowd: bool | int | None = None
    ignore: bool | int | None = None


class _Coco(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation] | None = None
    categories: list[_Category] | None = None


class _Line(msgspec.Struct):
    file_name: str
    objects: Any = None


@dataclass(frozen=True)
class _Named:
    """Reads the pictures that a file names from a folder, and nothing that lies elsewhere."""

    folder: Path
    names: list[str]

    def __call__(self, index: int) -> bytes:
        path = (self.folder / self.names[index]).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise ValueError("a link out of the folder of the pictures")
        if not is_file(path):
            raise FileNotFoundError("no such file")
        return path.read_bytes()

    def at(self, rows: Sequence[int]) -> _Named:
        return _Named(self.folder, [self.names[row] for row in rows])


def coco_file(path: Path) -> Path | None:
    """The COCO JSON that a path stands for: itself, or the one that Roboflow writes into a folder of pictures."""
    file = path / _IN_FOLDER if path.is_dir() else path
    return file if file.suffix.lower() == ".json" and file.is_file() else None


def open_coco(path: Path, labeled: bool, pictures: Path | None) -> ImageDataset:
    """The pictures that a COCO JSON names, in the folder `pictures`, by default that of the file, with their objects.

    Classes are the categories in the order of their ids. A picture without annotations has no objects. What is marked
    `iscrowd` or `ignore` is a crowd. Raises RequestError for anything else than a COCO JSON, names that lead out of the
    folder, and when `labeled` and the annotations are missing or broken; otherwise these are left out and noted.
    """
    try:
        coco = decode_json(path.read_bytes(), _Coco)
    except (ValueError, OSError) as error:
        raise RequestError(f"{path} is no COCO JSON of detection ({error})") from error
    images = _images(path, [image.file_name for image in coco.images], pictures or path.parent)
    if twice := _repeated([image.id for image in coco.images]):
        raise RequestError(f"{path}: several images have the id {twice}")
    return with_objects(images, lambda: _objects(coco), labeled)


def open_metadata(folder: Path, labeled: bool) -> ImageDataset | None:
    """The pictures of a folder whose `metadata.jsonl` has `objects`, as `datasets` reads them, or None for others.

    Each line has `file_name` and `objects`; see `read_objects`. Raises RequestError as `open_coco` does.
    """
    path = folder / _METADATA
    if not path.is_file() or b'"objects"' not in (content := path.read_bytes()):
        return None
    try:
        lines = msgspec.json.Decoder(_Line).decode_lines(content)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: a line is no JSON object with a `file_name` ({error})") from error
    names = [line.file_name for line in lines]

    def read() -> tuple[list[Objects], tuple[str, ...] | None]:
        import pyarrow

        try:
            column = pyarrow.chunked_array([pyarrow.array([line.objects for line in lines])])
        except (pyarrow.ArrowException, OverflowError) as error:
            raise RequestError(f"`objects` have no common layout ({one_line(str(error))})") from error
        return read_objects(column, names, [None] * len(names), None)

    return with_objects(_images(path, names, folder), read, labeled)


def _images(path: Path, names: list[str], folder: Path) -> ImageDataset:
    if not folder.is_dir():
        raise RequestError(
            f"{folder}, which is to hold the pictures that {path} names, is no folder; give another as `pictures`"
        )
    outside = [name for name in names if Path(name).anchor or ".." in Path(name).parts]
    if outside:
        raise RequestError(f"{path} names files outside the folder of the pictures: {shorten(outside)}")
    if names and not any(is_there(folder / name) for name in names):
        what = f"none of the {count(names, 'picture')} that {path} names is in {folder}, such as {one_line(names[0])}"
        raise RequestError(f"{what}; give their folder as `pictures`")
    return ImageDataset(path, names, _Named(folder, names), None, None)


def _objects(coco: _Coco) -> tuple[list[Objects], tuple[str, ...]]:
    if coco.annotations is None or coco.categories is None:
        raise RequestError("there are no `annotations` and `categories`")
    categories = sorted(coco.categories, key=lambda category: category.id)
    for key, values in (("id", [each.id for each in categories]), ("name", [each.name for each in categories])):
        if twice := _repeated(values):
            raise RequestError(f"several categories have the {key} {twice}; each needs its own")
    picture_of = {image.id: row for row, image in enumerate(coco.images)}
    class_of = {category.id: index for index, category in enumerate(categories)}
    pictures, classes, boxes = [], [], []
    for row, each in enumerate(coco.annotations):
        what = f"annotation {row} (counted from 0)" if each.id is None else f"annotation {one_line(str(each.id))}"
        if each.image_id is None or (picture := picture_of.get(each.image_id)) is None:
            raise RequestError(f"{what} is of image {one_line(str(each.image_id))}, which is not among the images")
        if each.category_id is None or (label := class_of.get(each.category_id)) is None:
            raise RequestError(f"{what} is of category {each.category_id}, which is not among the categories")
        if each.bbox is None or len(each.bbox) != 4:
            raise RequestError(f"{what} has no `bbox` of four numbers; {LAYOUT}")
        pictures.append(picture)
        classes.append(label)
        boxes.append(each.bbox)
    order = np.argsort(pictures, kind="stable")
    table = ObjectTable(
        names=[image.file_name for image in coco.images],
        counts=np.bincount(pictures, minlength=len(coco.images)),
        boxes=np.array(boxes, np.float64).reshape(-1, 4)[order],
        classes=np.array(classes, np.int64)[order],
        crowd=np.array([bool(each.iscrowd or each.ignore) for each in coco.annotations], bool)[order],
        sizes=[_size(image) for image in coco.images],
    )
    class_names = tuple(category.name for category in categories)
    table.check(class_names)
    return table.split(), class_names


def _size(image: _Image) -> tuple[int, int] | None:
    return (round(image.width), round(image.height)) if image.width and image.height else None


def _repeated(values: Sequence[int | str]) -> str | None:
    """The first value that is there twice."""
    return next((one_line(str(value)) for value, number in Counter(values).items() if number > 1), None)
