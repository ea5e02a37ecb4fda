"""Images from a Parquet file in the Hugging Face `datasets` layout, or from a folder, with or without labels."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mobilevit_sdk.errors import RequestError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif"})


@dataclass(frozen=True)
class ImageDataset:
    """Encoded images, decoded one at a time when asked for.

    `labels[i]` is the class index of image i, or None for unlabelled data; `class_names` are in index order.
    """

    source: Path
    names: list[str]
    read: Callable[[int], bytes]
    labels: list[int] | None
    class_names: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Image.Image:
        """Image `index`, decoded to RGB. Raises RequestError naming it when it cannot be decoded."""
        try:
            with Image.open(io.BytesIO(self.read(index))) as image:
                return image.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise RequestError(f"{self.source}: image {self.names[index]} cannot be decoded ({error})") from error


def open_dataset(source: Path, *, labelled: bool = False) -> ImageDataset:
    """Open a Parquet file, a folder with one folder per class, or a flat folder of images.

    Raises RequestError when nothing is there, when it holds no images, or when `labelled` and it holds no labels.
    """
    if not source.exists():
        raise RequestError(f"{source} does not exist; give a folder of images or a Parquet file")
    dataset = _open_folder(source) if source.is_dir() else _open_parquet(source)
    if not len(dataset):
        raise RequestError(f"{source} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if labelled and dataset.labels is None:
        raise RequestError(f"{source} has no labels; give one folder per class, or a Parquet column `label`")
    return dataset


def _open_folder(folder: Path) -> ImageDataset:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    classes = sorted({path.relative_to(folder).parts[0] for path in files if path.parent != folder})
    labelled = bool(files) and all(len(path.relative_to(folder).parts) == 2 for path in files)
    return ImageDataset(
        source=folder,
        names=[str(path.relative_to(folder)) for path in files],
        read=lambda index: files[index].read_bytes(),
        labels=[classes.index(path.parent.name) for path in files] if labelled else None,
        class_names=tuple(classes) if labelled else None,
    )


def _open_parquet(path: Path) -> ImageDataset:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, memory_map=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise RequestError(f"{path} is not a Parquet file ({str(error).splitlines()[0]})") from error
    if "image" not in table.column_names:
        raise RequestError(f"{path} has no column `image`; it has {', '.join(table.column_names)}")
    images = table.column("image")
    if not (pyarrow.types.is_struct(images.type) and images.type.get_field_index("bytes") >= 0):
        raise RequestError(f"{path}: column `image` is {images.type}, not a struct with encoded `bytes`")
    labels = table.column("label").to_pylist() if "label" in table.column_names else None
    return ImageDataset(
        source=path,
        names=[f"row {index}" for index in range(len(images))],
        read=lambda index: images[index].as_py()["bytes"],
        labels=labels,
        class_names=_class_names(table.schema.metadata or {}),
    )


def _class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...] | None:
    """The class names that the `datasets` library keeps in the schema, or None where there are none."""
    try:
        features: Any = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features["label"]["names"])
    except (KeyError, TypeError, ValueError):
        return None
