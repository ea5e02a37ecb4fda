"""Images from a Parquet file in the Hugging Face `datasets` layout, or from a folder, with or without labels."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from mobilevit_sdk.data.pictures import decode_picture, image_formats, image_suffixes
from mobilevit_sdk.errors import RequestError


@dataclass(frozen=True)
class ImageDataset:
    """Encoded images, decoded one at a time when asked for.

    `labels[i]` is the class index of image i, or None for unlabeled data; `class_names` are in index order, or None
    where nobody wrote them down.
    """

    source: Path
    names: list[str]
    read: Callable[[int], bytes]
    labels: list[int] | None
    class_names: tuple[str, ...] | None

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
            read=lambda index: self.read(rows[index]),
            labels=None if self.labels is None else [self.labels[row] for row in rows],
        )


def _spread(total: int, count: int) -> list[int]:
    count = min(total, count)
    return [index * total // count for index in range(count)]


def as_labeled(given: ImageDataset | Path | str) -> ImageDataset:
    """A dataset, or the labeled images at a path. Raises RequestError as `open_dataset` does."""
    return given if isinstance(given, ImageDataset) else open_dataset(Path(given), labeled=True)


def open_dataset(source: Path, *, labeled: bool = False) -> ImageDataset:
    """Open a Parquet file, a folder with one folder per class, or a folder of images without labels.

    Raises RequestError when nothing is there, when it holds no images, or when `labeled` and it holds no labels.
    """
    if not source.exists():
        raise RequestError(f"{source} does not exist; give a folder of images or a Parquet file")
    dataset = _open_folder(source, labeled) if source.is_dir() else _open_parquet(source, labeled)
    if not len(dataset):
        raise RequestError(f"{source} holds no images ({', '.join(sorted(image_suffixes()))})")
    return dataset


def _open_folder(folder: Path, labeled: bool) -> ImageDataset:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in image_suffixes() and not path.name.startswith(".") and path.is_file()
    )
    unplaced = [path for path in files if len(path.relative_to(folder).parts) != 2]
    if labeled and unplaced:
        raise RequestError(f"{folder} has no labels: expected one folder per class, but there is {unplaced[0]}")
    classes = tuple(sorted({path.parent.name for path in files}))
    index_of = {name: index for index, name in enumerate(classes)}
    return ImageDataset(
        source=folder,
        names=[str(path.relative_to(folder)) for path in files],
        read=lambda index: files[index].read_bytes(),
        labels=None if unplaced else [index_of[path.parent.name] for path in files],
        class_names=None if unplaced else classes,
    )


def _open_parquet(path: Path, labeled: bool) -> ImageDataset:
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            schema = file.schema_arrow
            _check_schema(path, schema, labeled)
            table = file.read(columns=[name for name in ("image", "label") if name in schema.names])
    except (pyarrow.ArrowException, OSError) as error:
        raise RequestError(f"{path} is no Parquet file, or a damaged one ({str(error).splitlines()[0]})") from error
    images = pyarrow.compute.struct_field(table.column("image"), "bytes")
    if images.null_count:
        raise RequestError(f"{path}: row {images.is_null().to_pylist().index(True)} holds no image bytes")
    class_names = _class_names(schema.metadata or {})
    labels, problem = _labels(table, class_names)
    if labeled and problem:
        raise RequestError(f"{path}: {problem}")
    return ImageDataset(
        source=path,
        names=[f"row {index}" for index in range(len(images))],
        read=lambda index: images[index].as_py(),
        labels=labels,
        class_names=class_names,
    )


def _check_schema(path: Path, schema: Any, labeled: bool) -> None:
    """Raise RequestError when the columns (a pyarrow schema) are not `image`, a struct with `bytes`, and `label`."""
    from pyarrow import types

    for name in ("image", "label") if labeled else ("image",):
        if schema.names.count(name) != 1:
            raise RequestError(f"{path} needs one column `{name}`; it has {', '.join(schema.names) or 'none'}")
    image = schema.field("image").type
    encoded = image.field("bytes").type if types.is_struct(image) and image.get_field_index("bytes") >= 0 else None
    if encoded is None or not (types.is_binary(encoded) or types.is_large_binary(encoded)):
        raise RequestError(f"{path}: column `image` is {image}, not a struct with the encoded image in binary `bytes`")


def _labels(table: Any, class_names: tuple[str, ...] | None) -> tuple[list[int] | None, str | None]:
    """The class indices of a pyarrow table, or None and the reason why they are none."""
    from pyarrow import types

    if table.column_names.count("label") != 1:
        return None, "there is no column `label`"
    column = table.column("label")
    if not types.is_integer(column.type):
        return None, f"column `label` is {column.type}, not class indices"
    labels: list[Any] = column.to_pylist()
    for row, label in enumerate(labels):
        if label is None or label < 0:  # -1 is what `datasets` writes for a test set without labels
            return None, f"row {row} has no label"
        if class_names is not None and label >= len(class_names):
            return None, f"row {row} has label {label}, but the schema names {len(class_names)} classes"
    return labels, None


def _class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...] | None:
    """The class names that the `datasets` library keeps in the schema, or None where there are none."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        return None
    return tuple(names)
