"""Labeled objects in the layout of the Hugging Face `datasets` library: `objects` with `bbox` and `category`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from mobilevit_sdk.data.objects import LAYOUT, Objects, ObjectTable
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.text import one_line

_CATEGORY, _CROWD = ("category", "categories"), ("iscrowd", "is_crowd")  # the names that are in use


def read_objects(
    column: Any, names: Sequence[str], sizes: Sequence[tuple[int, int] | None], class_names: tuple[str, ...] | None
) -> tuple[list[Objects], tuple[str, ...] | None]:
    """The objects in a pyarrow column, and the names of their classes.

    The column is a struct of lists or a list of structs: `bbox`, four numbers as in Objects; `category` or
    `categories`, indices or strings, and if it is there `iscrowd` or `is_crowd`. Of strings the distinct ones, sorted,
    are the class names; `class_names` are those of indices. `names` and `sizes` are those of the pictures. Raises
    RequestError, without a path, that names the row.
    """
    import pyarrow

    try:
        column.validate(full=True)
        return _read(_Column(column, names), sizes, class_names)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise RequestError(f"column `objects` cannot be read ({one_line(str(error))})") from error


def _read(
    column: _Column, sizes: Sequence[tuple[int, int] | None], class_names: tuple[str, ...] | None
) -> tuple[list[Objects], tuple[str, ...] | None]:
    counts, boxes = column.boxes()
    classes, class_names = column.classes(counts, class_names)
    table = ObjectTable(column.names, counts, boxes, classes, column.crowd(counts), sizes)
    table.check(class_names)
    return table.split(), class_names


class _Column:
    """A pyarrow column of objects, one row for each picture."""

    def __init__(self, column: Any, names: Sequence[str]) -> None:
        from pyarrow import types

        self.names = names
        self._column = column
        self._is_struct = types.is_struct(column.type)
        kind = column.type if self._is_struct else column.type.value_type if _is_list(column.type) else None
        if kind is None or not types.is_struct(kind):
            raise RequestError(f"column `objects` is {column.type}, not a struct with `bbox` and `category`")
        self._fields = {kind.field(index).name for index in range(kind.num_fields)}

    def boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """How many boxes each row has, and all of them as float64 [n, 4]."""
        import pyarrow.compute as pc
        from pyarrow import types

        counts, boxes = self._values("bbox")
        if not len(boxes):
            return counts, np.zeros((0, 4))
        if not _is_list(boxes.type):
            raise RequestError(f"`bbox` in column `objects` holds {boxes.type}; {LAYOUT}")
        lengths = pc.fill_null(pc.list_value_length(boxes), 0).to_numpy()
        if (wrong := lengths != 4).any():
            raise RequestError(f"{self._row(counts, wrong)} has a box of {lengths[wrong][0]} numbers; {LAYOUT}")
        values = pc.list_flatten(boxes)
        if not (types.is_integer(values.type) or types.is_floating(values.type) or types.is_null(values.type)):
            raise RequestError(f"`bbox` in column `objects` holds {values.type}; {LAYOUT}")
        return counts, values.to_numpy().astype(np.float64).reshape(-1, 4)

    def classes(
        self, counts: np.ndarray, class_names: tuple[str, ...] | None
    ) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """The classes of all objects, int64 [n], and the names of classes."""
        import pyarrow.compute as pc
        from pyarrow import types

        field = self._one_of(_CATEGORY)
        if field is None:
            raise RequestError("column `objects` has no `category`")
        values = self._parallel(field, counts)
        if not len(values):
            return np.zeros(0, np.int64), class_names
        if values.null_count:
            raise RequestError(f"{self._row(counts, pc.is_null(values).to_numpy())} has an object without a category")
        if types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if types.is_string(values.type) or types.is_large_string(values.type):
            found = sorted(pc.unique(values).to_pylist())
            index_of = {name: index for index, name in enumerate(found)}
            return np.array([index_of[name] for name in values.to_pylist()], np.int64), tuple(found)
        if not types.is_integer(values.type):
            raise RequestError(f"`{field}` in column `objects` is {values.type}, neither class indices nor names")
        return values.to_numpy().astype(np.int64), class_names

    def crowd(self, counts: np.ndarray) -> np.ndarray:
        """bool [n]."""
        import pyarrow

        field = self._one_of(_CROWD)
        if field is None or not len(values := self._parallel(field, counts)):
            return np.zeros(int(counts.sum()), bool)
        return values.cast(pyarrow.bool_()).fill_null(False).to_numpy().astype(bool)

    def _one_of(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if name in self._fields), None)

    def _parallel(self, field: str, counts: np.ndarray) -> Any:
        """The values of a field that has as many in each row as there are boxes."""
        own, values = self._values(field)
        if (wrong := own != counts).any():
            row = int(wrong.argmax())
            raise RequestError(
                f"{one_line(self.names[row])} has {counts[row]} of `bbox` and {own[row]} of `{field}` in `objects`"
            )
        return values

    def _values(self, field: str) -> tuple[np.ndarray, Any]:
        """How many values of a field each row has, and all of them as a pyarrow array."""
        import pyarrow.compute as pc

        if field not in self._fields:
            raise RequestError(f"column `objects` has no `{field}`")
        lists = pc.struct_field(self._column, field) if self._is_struct else self._column
        if not _is_list(lists.type):
            raise RequestError(f"`{field}` in column `objects` is {lists.type}, not a list")
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
        values = pc.list_flatten(lists)
        return counts, values if self._is_struct else pc.struct_field(values, field)

    def _row(self, counts: np.ndarray, mask: np.ndarray) -> str:
        """The name of the row of the first of these objects."""
        return one_line(self.names[int(np.repeat(np.arange(len(counts)), counts)[mask.argmax()])])


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return any(test(kind) for test in (types.is_list, types.is_large_list, types.is_fixed_size_list))


def object_class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...] | None:
    """The names of objects' classes that `datasets` keeps in the schema, or None where there are none.

    Each of its versions nests them in another way: `objects` may be a sequence of a struct, a struct of sequences, or
    a list that holds one struct.
    """
    try:
        fields = _element(json.loads(metadata[b"huggingface"])["info"]["features"]["objects"])
        names = _element(next(fields[name] for name in _CATEGORY if name in fields))["names"]
    except (KeyError, TypeError, ValueError, RecursionError, StopIteration):
        return None
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        return None
    return tuple(names)


def _element(feature: Any) -> Any:
    """What a feature holds, without the sequences around it."""
    while True:
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        elif isinstance(feature, dict) and isinstance(feature.get("feature"), dict | list):
            feature = feature["feature"]
        else:
            return feature
