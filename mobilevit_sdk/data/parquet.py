"""Images from a Parquet file in the layout of the Hugging Face `datasets` library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mobilevit_sdk.data.dataset import ImageDataset
from mobilevit_sdk.errors import RequestError


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
        return _encoded(self.path, _read(self.path, labeled=False))

    def __call__(self, index: int) -> bytes:
        encoded: bytes = self.images[self.rows[index]].as_py()
        return encoded

    def at(self, rows: Sequence[int]) -> _Rows:
        chosen = _Rows(self.path, [self.rows[row] for row in rows])
        chosen.__dict__["images"] = self.images
        return chosen


def open_parquet(path: Path, labeled: bool) -> ImageDataset:
    """Column `image`, a struct with the encoded image in `bytes`, and class indices in column `label`.

    Class names are those that `datasets` keeps in the schema, so that every class keeps its index. Raises RequestError
    for any other layout, and when `labeled` and there are no labels.
    """
    table = _read(path, labeled)
    reader = _Rows(path, range(len(table)))
    reader.__dict__["images"] = _encoded(path, table)
    class_names = _class_names(table.schema.metadata or {})
    labels, problem = _labels(table, class_names)
    if labeled and problem:
        raise RequestError(f"{path}: {problem}")
    return ImageDataset(path, [f"row {index}" for index in range(len(table))], reader, labels, class_names)


def _read(path: Path, labeled: bool) -> Any:
    """The pyarrow table of the columns `image` and, if there is one, `label`."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            schema = file.schema_arrow
            _check_schema(path, schema, labeled)
            return file.read(columns=[name for name in ("image", "label") if name in schema.names])
    except (pyarrow.ArrowException, OSError) as error:
        raise RequestError(f"{path} is no Parquet file, or a damaged one ({str(error).splitlines()[0]})") from error


def _encoded(path: Path, table: Any) -> Any:
    import pyarrow.compute

    images = pyarrow.compute.struct_field(table.column("image"), "bytes")
    if images.null_count:
        raise RequestError(f"{path}: row {images.is_null().to_pylist().index(True)} holds no image bytes")
    return images


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
