"""TFLite Metadata: what an image and the scores mean, as MediaPipe, ML Kit and Android Studio read it from the file.

A flatbuffer of its own, in a buffer that the model lists by the name `TFLITE_METADATA`. Its schema is public
(metadata_schema.fbs of MediaPipe, version 1.5.0); the tables below are the part of it that describes a classifier, in
the order of its fields. Fields and types that are newer or about something else are neither written nor read.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_converters.tflite.file.associated_files import labels_file
from mobilevit_converters.tflite.file.schema import append, load_schema
from mobilevit_converters.tflite.toolchain import import_from
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.spec import ModelSpec, Output

NAME, IDENTIFIER = "TFLITE_METADATA", b"M001"
OLDEST_PARSER = "1.0.0"  # that knows every field written here

DAMAGE = (struct.error, ValueError, IndexError, TypeError, OverflowError)  # what reading beyond a buffer raises

# A field is a "string", a "uint", the names of an enumeration, a union {name: number}, or another table; a list holds
# several of its one element. A union takes two places, the first for its number.
AssociatedFileType = ("UNKNOWN", "DESCRIPTIONS", "TENSOR_AXIS_LABELS", "TENSOR_VALUE_LABELS")
ColorSpaceType = ("UNKNOWN", "RGB", "GRAYSCALE")
ContentProperties = {"FeatureProperties": 1, "ImageProperties": 2}
ProcessUnitOptions = {"NormalizationOptions": 1}
TABLES: dict[str, dict[str, Any]] = {
    "ModelMetadata": {
        "name": "string",
        "description": "string",
        "version": "string",
        "subgraph_metadata": ["SubGraphMetadata"],
        "author": "string",
        "license": "string",
        "associated_files": ["AssociatedFile"],
        "min_parser_version": "string",
    },
    "SubGraphMetadata": {
        "name": "string",
        "description": "string",
        "input_tensor_metadata": ["TensorMetadata"],
        "output_tensor_metadata": ["TensorMetadata"],
        "associated_files": ["AssociatedFile"],
    },
    "TensorMetadata": {
        "name": "string",
        "description": "string",
        "dimension_names": ["string"],
        "content": "Content",
        "process_units": ["ProcessUnit"],
        "stats": "Stats",
        "associated_files": ["AssociatedFile"],
    },
    "Content": {"content_properties": ContentProperties},
    "FeatureProperties": {},
    "ImageProperties": {"color_space": ColorSpaceType, "default_size": "ImageSize"},
    "ImageSize": {"width": "uint", "height": "uint"},
    "ProcessUnit": {"options": ProcessUnitOptions},
    "NormalizationOptions": {"mean": ["float"], "std": ["float"]},
    "Stats": {"max": ["float"], "min": ["float"]},
    "AssociatedFile": {"name": "string", "description": "string", "type": AssociatedFileType},
}


def add_metadata(model: Any, spec: ModelSpec) -> None:
    """Put the metadata of `spec` into `model`, a `ModelT`, whose labels stand in the archive behind it."""
    schema = load_schema()
    buffer, entry = schema.BufferT(), schema.MetadataT()
    orders = []
    for subgraph in model.subgraphs:
        names = [subgraph.tensors[index].name for index in subgraph.outputs]
        orders.append([name if isinstance(name, str) else name.decode() for name in names])
    buffer.data = np.frombuffer(encode(document(spec, orders)), np.uint8)
    entry.name, entry.buffer = NAME, append(model.buffers, buffer)
    model.metadata = [*(model.metadata or ()), entry]


def document(spec: ModelSpec, orders: Sequence[Sequence[str]] = ((),)) -> dict[str, Any]:
    """What the metadata of a converted model says, for each of its graphs, one for each image size.

    Readers find what is said of an output by its place in the graph's own order. They feed (pixel - mean) / std of
    8-bit pixels: the graph takes [0, 1], and holds its own mean and std.
    """
    return {
        "name": spec.model,
        "description": spec.describe(),
        "subgraph_metadata": [_of_graph(spec, size, order) for size, order in zip(spec.sizes, orders, strict=True)],
        **({"license": spec.license} if spec.license else {}),
        "min_parser_version": OLDEST_PARSER,
    }


def _of_graph(spec: ModelSpec, size: tuple[int, int], order: Sequence[str]) -> dict[str, Any]:
    height, width = size
    image = {
        "name": "image",
        "description": f"RGB in [0, 1], {width} x {height} pixels; mean, std and channel order are in the graph",
        "content": {
            "content_properties": {
                "ImageProperties": {"color_space": "RGB", "default_size": {"width": width, "height": height}}
            }
        },
        "process_units": [{"options": {"NormalizationOptions": {"mean": [0.0], "std": [255.0]}}}],
        "stats": {"max": [1.0], "min": [0.0]},
    }
    answers = [
        {
            "name": output.name,
            "description": output.meaning,
            "content": {"content_properties": {"FeatureProperties": {}}},
            "associated_files": [_labels(output)] if output.labels else [],
        }
        for output in sorted(spec.outputs, key=lambda output: order.index(output.name) if order else 0)
    ]
    return {"input_tensor_metadata": [image], "output_tensor_metadata": answers}


def _labels(output: Output) -> dict[str, str]:
    about = {"description": "one label a line, in their order", "type": "TENSOR_AXIS_LABELS"}
    return {"name": labels_file(output), **about}


def encode(content: Mapping[str, Any]) -> bytes:
    """A `ModelMetadata`, by the names of its fields, as a flatbuffer."""
    builder = import_from("flatbuffers", "flatbuffers.builder").Builder(1024)
    builder.Finish(_write(builder, "ModelMetadata", content), IDENTIFIER)
    return bytes(builder.Output())


def read_metadata(path: Path, model: Any) -> dict[str, Any] | None:
    """The metadata of `model`, the root table of the file; None where it has none. Raises ArtifactError."""
    try:
        for entry in (model.Metadata(i) for i in range(model.MetadataLength())):
            if entry.Name() == NAME.encode():
                return decode(_buffer(model, entry.Buffer()))
    except DAMAGE as error:
        raise ArtifactError(f"{path} carries damaged TFLite Metadata: {error}") from error
    return None


def _buffer(model: Any, index: int) -> bytes:
    if index >= model.BuffersLength() or not model.Buffers(index).DataLength():
        raise ValueError("it is missing")
    return bytes(model.Buffers(index).DataAsNumpy())


def decode(content: bytes) -> dict[str, Any]:
    """The fields of a `ModelMetadata`. Raises one of `DAMAGE` where they cannot be read."""
    if content[4:8] != IDENTIFIER:
        raise ValueError(f"expected {IDENTIFIER.decode()} at byte 4")
    table = import_from("flatbuffers", "flatbuffers.table").Table(content, struct.unpack_from("<I", content)[0])
    return _Reader(content).table(table, "ModelMetadata")


def _places(name: str) -> list[tuple[int, str, Any]]:
    """(place, name, kind) of each field of a table."""
    places, place = [], 0
    for field, kind in TABLES[name].items():
        place += isinstance(kind, dict)
        places.append((place, field, kind))
        place += 1
    return places


def _write(builder: Any, name: str, content: Mapping[str, Any]) -> int:
    """Write a table and all that it refers to; returns its offset."""
    places = [each for each in _places(name) if content.get(each[1]) not in (None, [])]
    values = {field: _write_value(builder, kind, content[field]) for _, field, kind in places}
    builder.StartObject(max((place for place, _, _ in _places(name)), default=-1) + 1)
    for place, field, kind in places:
        if kind == "uint":
            builder.PrependUint32Slot(place, values[field], 0)
        elif isinstance(kind, tuple):
            builder.PrependInt8Slot(place, values[field], 0)
        else:
            if isinstance(kind, dict):
                builder.PrependUint8Slot(place - 1, kind[next(iter(content[field]))], 0)
            builder.PrependUOffsetTRelativeSlot(place, values[field], 0)
    return int(builder.EndObject())


def _write_value(builder: Any, kind: Any, value: Any) -> int:
    """The offset of what stands elsewhere, or the number that stands in the table itself."""
    if kind == "uint":
        return int(value)
    if isinstance(kind, tuple):
        return kind.index(value)
    if isinstance(kind, dict):
        ((name, table),) = value.items()
        return _write(builder, name, table)
    if isinstance(kind, list):
        if kind == ["float"]:
            return int(builder.CreateNumpyVector(np.array(value, np.float32)))
        offsets = [_write_value(builder, kind[0], each) for each in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())
    return int(builder.CreateString(value) if kind == "string" else _write(builder, kind, value))


class _Reader:
    """Reads tables of one flatbuffer. Its lists have no more elements than fit into it, however often it lists them."""

    def __init__(self, content: bytes) -> None:
        self.unread = len(content) // 4

    def table(self, table: Any, name: str) -> dict[str, Any]:
        """The fields that are there."""
        offsets = ((place, field, kind, table.Offset(4 + 2 * place)) for place, field, kind in _places(name))
        return {field: self.field(table, offset, kind, place) for place, field, kind, offset in offsets if offset}

    def field(self, table: Any, offset: int, kind: Any, place: int) -> Any:
        """What is unknown stays a number."""
        at = table.Pos + offset
        if kind == "uint":
            return struct.unpack_from("<I", table.Bytes, at)[0]
        if isinstance(kind, tuple):
            number = table.Bytes[at]
            return kind[number] if number < len(kind) else number
        if isinstance(kind, dict):
            number = table.Bytes[table.Pos + table.Offset(4 + 2 * (place - 1))]
            names = {number: name for name, number in kind.items()}
            return {names[number]: self.element(table, at, names[number])} if number in names else number
        if isinstance(kind, list):
            start, length = table.Vector(offset), table.VectorLen(offset)
            self.unread -= length
            if self.unread < 0:
                raise ValueError("a list that does not fit into it")
            return [self.element(table, start + 4 * i, kind[0]) for i in range(length)]
        return self.element(table, at, kind)

    def element(self, table: Any, at: int, kind: str) -> Any:
        """What stands, or is referred to, at a position: in a list, or as the only one."""
        if kind == "float":
            return struct.unpack_from("<f", table.Bytes, at)[0]
        if kind == "string":
            return table.String(at).decode()
        return self.table(type(table)(table.Bytes, table.Indirect(at)), kind)
