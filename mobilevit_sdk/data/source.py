"""Opening images where they lie: a folder, a Parquet file or a COCO JSON."""

from __future__ import annotations

import dataclasses
from glob import escape
from pathlib import Path
from typing import get_args

from mobilevit_sdk.data.coco import coco_file, open_coco, open_metadata
from mobilevit_sdk.data.dataset import ClassOrder, ImageDataset
from mobilevit_sdk.data.folder import open_folder
from mobilevit_sdk.data.parquet import open_parquet
from mobilevit_sdk.data.pictures import image_suffixes
from mobilevit_sdk.data.shards import open_address
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.files import Address, is_address, is_there
from mobilevit_sdk.text import shorten

LARGE_BYTES = 1 << 30  # of a Parquet file that is not held in memory


def open_dataset(
    source: ImageDataset | Path | str,
    *,
    labeled: bool = False,
    class_order: ClassOrder | None = None,
    skip_broken: bool = False,
    pictures: Path | str | None = None,
) -> ImageDataset:
    """Open a Parquet file, a COCO JSON, a folder with one folder per class, or a folder of images without labels.

    A pattern such as `train-*.parquet` or `shards/*.tar` (WebDataset), here or at an address that fsspec knows
    (`hf://datasets/...`, `s3://...`), opens all these files as one dataset, whose images are not held in memory; a
    Parquet file of more than 1 GiB is opened like that as well.
    A folder with a COCO JSON named as Roboflow does (`_annotations.coco.json`), or with Hugging Face's `metadata.jsonl`
    that has `objects`, is read as that file says. An open dataset is returned as it is. `class_order` is that of the
    class folders, by default lexicographic; see `open_folder`. `skip_broken` leaves out images that cannot be decoded,
    once they are `checked`. `pictures` is the folder of the pictures that a COCO JSON names, by default its own. Raises
    RequestError when nothing is there, when it holds no images, or when `labeled` and it holds neither labels nor
    objects.
    """
    if isinstance(source, ImageDataset):
        return source
    if class_order not in (None, *get_args(ClassOrder)):
        raise RequestError(f"no class order {class_order!r}; {suggest(str(class_order), get_args(ClassOrder))}")
    if is_address(source):
        if skip_broken or class_order or pictures is not None:
            raise RequestError(f"{source} is read while it is used: leave out options for folders and broken images")
        return _some(open_address(Address(source), labeled))
    path = Path(source)
    if not is_there(path):
        raise RequestError(f"{path} does not exist; give a folder of images, a Parquet file or a COCO JSON")
    dataset = _some(_open(path, labeled, class_order, Path(pictures) if pictures is not None else None))
    return dataclasses.replace(dataset, skip_broken=skip_broken)


def _some(dataset: ImageDataset) -> ImageDataset:
    if not len(dataset):
        known = ", ".join(sorted(image_suffixes()))
        raise RequestError("; ".join((f"{dataset.source} holds no images ({known})", *dataset.notes)))
    return dataset


def _open(path: Path, labeled: bool, class_order: ClassOrder | None, pictures: Path | None) -> ImageDataset:
    if file := coco_file(path):
        return open_coco(file, labeled, pictures)
    if pictures is not None:
        raise RequestError(f"`pictures` is the folder of the pictures that a COCO JSON names, and {path} is none")
    if not path.is_dir():
        if path.suffix == ".tar" or path.stat().st_size > LARGE_BYTES:
            return open_address(Address(escape(str(path))), labeled)
        return open_parquet(path, labeled)
    if shards := sorted(each.name for each in path.glob("*") if each.suffix in (".parquet", ".tar")):
        raise RequestError(f"{path} holds files of many images ({shorten(shards)}); say which: {path}/{shards[0][:5]}*")
    described = open_metadata(path, labeled)
    return open_folder(path, labeled, class_order) if described is None else described
