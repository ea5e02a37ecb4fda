"""Opening images where they lie: a folder or a Parquet file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

from mobilevit_sdk.data.dataset import ClassOrder, ImageDataset
from mobilevit_sdk.data.folder import open_folder
from mobilevit_sdk.data.parquet import open_parquet
from mobilevit_sdk.data.pictures import image_suffixes
from mobilevit_sdk.errors import RequestError, suggest


def open_dataset(
    source: ImageDataset | Path | str,
    *,
    labeled: bool = False,
    class_order: ClassOrder | None = None,
    skip_broken: bool = False,
) -> ImageDataset:
    """Open a Parquet file, a folder with one folder per class, or a folder of images without labels.

    An open dataset is returned as it is. `class_order` is that of the class folders, by default lexicographic; see
    `open_folder`. `skip_broken` leaves out images that cannot be decoded, once they are `checked`. Raises RequestError
    when nothing is there, when it holds no images, or when `labeled` and it holds no labels.
    """
    if isinstance(source, ImageDataset):
        return source
    if class_order not in (None, *get_args(ClassOrder)):
        raise RequestError(f"no class order {class_order!r}; {suggest(str(class_order), get_args(ClassOrder))}")
    path = Path(source)
    if not path.exists():
        raise RequestError(f"{path} does not exist; give a folder of images or a Parquet file")
    dataset = open_folder(path, labeled, class_order) if path.is_dir() else open_parquet(path, labeled)
    if not len(dataset):
        raise RequestError(
            "; ".join((f"{path} holds no images ({', '.join(sorted(image_suffixes()))})", *dataset.notes))
        )
    return dataclasses.replace(dataset, skip_broken=skip_broken)
