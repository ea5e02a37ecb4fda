"""Inspection of an .mlpackage."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mobilevit_converters.coreml.file.package import Package, operations, read_package
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.converter import EntryInspection, Inspection, TensorInfo
from mobilevit_sdk.formats.entries import inspection_of

_SYSTEMS = {7: "iOS 16", 8: "iOS 17", 9: "iOS 18", 10: "iOS 26"}  # by specificationVersion


def inspect(path: Path) -> Inspection:
    """Read a package back, from its protobuf alone. Raises ArtifactError for anything but an .mlpackage."""
    return describe(read_package(path))


def describe(package: Package) -> Inspection:
    """What a package holds. Raises ArtifactError where its description does not fit its program.

    `delegates` is None: Core ML decides on the device which operators run on the Neural Engine.
    """
    found = [_entry(each) for each in package.entries().values()]
    return inspection_of(
        [entry for entry, _ in found],
        max_rank=max(rank for _, rank in found),
        spec=package.spec,
        backend=package.backend,
        oldest_system=_SYSTEMS.get(package.model.specificationVersion),
    )


def _entry(package: Package) -> tuple[EntryInspection, int]:
    """What a function holds, and its highest rank."""
    description = package.interface
    executed = [operation for operation in operations(package.block) if operation.type != "const"]
    values = [*package.main.inputs, *(output for operation in executed for output in operation.outputs)]
    shapes = {value.name: _shape(value.type) for value in values}
    try:
        inputs = tuple(_tensor_info(feature, shapes) for feature in description.input)
        outputs = tuple(_tensor_info(feature, shapes) for feature in description.output)
    except ValueError as error:
        raise ArtifactError(f"{package.path} describes an input or output of unknown type: {error}") from error
    entry = EntryInspection(
        name=package.function,
        inputs=inputs,
        outputs=outputs,
        operators=dict(sorted(Counter(operation.type for operation in executed).items())),
        delegates=None,
        undelegated_ops=None,
    )
    return entry, max(map(len, shapes.values()), default=0)


def _shape(value_type: Any) -> tuple[int, ...]:
    return tuple(dimension.constant.size for dimension in value_type.tensorType.dimensions)


def _tensor_info(feature: Any, shapes: dict[str, tuple[int, ...]]) -> TensorInfo:
    """The shape is the program's; the type is that of the interface: an array's, or what Core ML makes of it."""
    kind = feature.type.WhichOneof("Type") or "no"
    image, array = feature.type.imageType, feature.type.multiArrayType
    if kind == "imageType":
        dtype = f"{image.ColorSpace.Name(image.colorSpace)} image"
    elif kind == "multiArrayType":
        dtype = array.ArrayDataType.Name(array.dataType).lower()
    else:
        dtype = kind.removesuffix("Type")
    return TensorInfo(name=feature.name, shape=shapes.get(feature.name, ()), dtype=dtype)
