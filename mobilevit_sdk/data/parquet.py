"""Images from a Parquet file in the layout of the Hugging Face `datasets` library."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mobilevit_sdk.data.dataset import ImageDataset, with_objects
from mobilevit_sdk.data.object_columns import object_class_names, read_objects
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import Address
from mobilevit_sdk.text import one_line

FACTS = ("label", "objects", "width", "height")  # the columns that say something about images


@dataclass(frozen=True)
class _Rows:
    """Reads rows of a Parquet file, which is opened again in another process."""

    path: Path
    rows: Sequence[int]

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "rows": self.rows}

    @cached_property
    def images(self) -> Any:
        """The encoded images of the whole file: a pyarrow array of bytes."""
        return _encoded(self.path, _read(self.path, ("image",)))

    def __call__(self, index: int) -> bytes:
        encoded: bytes = self.images[self.rows[index]].as_py()
        return encoded

    def at(self, rows: Sequence[int]) -> _Rows:
        chosen = _Rows(self.path, [self.rows[row] for row in rows])
        chosen.__dict__["images"] = self.images
        return chosen


def open_parquet(path: Path, labeled: bool) -> ImageDataset:
    """Column `image`, a struct with the encoded image in `bytes`, and class indices in column `label`, or `objects`.

    Class names are those that `datasets` keeps in the schema, so that every class keeps its index; for `objects` see
    `read_objects`. Integers in columns `width` and `height` are the sizes of their pictures. Where there are labels and
    objects, only the labels are read. Raises RequestError for any other layout, and when `labeled` and there are
    neither or broken ones; otherwise broken objects are left out and noted.
    """
    table = _read(path, (*FACTS, "image"), labeled)
    reader = _Rows(path, range(len(table)))
    reader.__dict__["images"] = _encoded(path, table)
    names = [f"row {index}" for index in range(len(table))]
    return described(ImageDataset(path, names, reader, None, None), table, labeled)


def described(images: ImageDataset, table: Any, labeled: bool) -> ImageDataset:
    """The images with what `table`, a pyarrow table of the columns `FACTS`, says of them: see `open_parquet`."""
    columns, path = table.column_names, images.source
    metadata = table.schema.metadata or {}
    if "label" not in columns and columns.count("objects") == 1:
        return with_objects(
            images,
            lambda: read_objects(
                table.column("objects"), list(images.names), _sizes(table), object_class_names(metadata)
            ),
            labeled,
        )
    class_names = _class_names(metadata)
    labels, problem = _labels(table, class_names, images.names)
    if labeled and problem:
        raise RequestError(f"{path}: {problem}")
    notes = (f"{path}: column `objects` not read; remove column `label` to read it",) if "objects" in columns else ()
    return dataclasses.replace(images, labels=labels, class_names=class_names, notes=notes)


def _read(path: Path, columns: Collection[str], labeled: bool = False) -> Any:
    """The pyarrow table of those of the columns that there are."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            schema = file.schema_arrow
            check_schema(path, schema, labeled)
            check_rows(file.metadata, path.stat().st_size)
            return file.read(columns=[name for name in columns if name in schema.names])
    except (pyarrow.ArrowException, OSError) as error:
        raise RequestError(f"{path} is no Parquet file, or a damaged one ({one_line(str(error))})") from error


def check_rows(metadata: Any, size: int) -> None:
    """Raise OSError for a file of `size` bytes that claims more images than bytes, of a label that takes no room."""
    if metadata.num_rows > size:
        raise OSError(f"it claims {metadata.num_rows:,} images in {size:,} bytes")


def _sizes(table: Any) -> list[tuple[int, int] | None]:
    """Width and height of every picture as the columns `width` and `height` of a pyarrow table say them."""
    from pyarrow import types

    columns = [table.column(name) for name in ("width", "height") if table.column_names.count(name) == 1]
    if len(columns) != 2 or not all(types.is_integer(column.type) for column in columns):
        return [None] * len(table)
    pairs = zip(*(column.to_pylist() for column in columns), strict=True)
    return [None if None in pair else pair for pair in pairs]


def _encoded(path: Path, table: Any) -> Any:
    import pyarrow.compute

    images = pyarrow.compute.struct_field(table.column("image"), "bytes")
    if images.null_count:
        raise RequestError(f"{path}: row {images.is_null().to_pylist().index(True)} holds no image bytes")
    return images


def check_schema(path: Path | Address, schema: Any, labeled: bool) -> None:
    """Raise RequestError when the columns (a pyarrow schema) are not `image`, a struct with `bytes`, and a label."""
    from pyarrow import types

    for names in (("image",), ("label", "objects")) if labeled else (("image",),):
        if all(schema.names.count(name) != 1 for name in names):
            wanted = " or ".join(f"`{name}`" for name in names)
            raise RequestError(f"{path} needs one column {wanted}; it has {', '.join(schema.names) or 'none'}")
    image = schema.field("image").type
    encoded = image.field("bytes").type if types.is_struct(image) and image.get_field_index("bytes") >= 0 else None
    if encoded is None or not (types.is_binary(encoded) or types.is_large_binary(encoded)):
        raise RequestError(f"{path}: column `image` is {image}, not a struct with the encoded image in binary `bytes`")


def _labels(
    table: Any, class_names: tuple[str, ...] | None, names: Sequence[str]
) -> tuple[list[int] | None, str | None]:
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
            return None, f"{names[row]} has no label"
        if class_names is not None and label >= len(class_names):
            return None, f"{names[row]} has label {label}, but the schema names {len(class_names)} classes"
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
