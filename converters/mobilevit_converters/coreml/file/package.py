"""An .mlpackage on disk, read as an untrusted file.

A package is a folder: `Manifest.json` names its items, which lie under `Data`; the root item is the model, a protobuf
message of Core ML's public Model.proto; its program refers into `weights/weight.bin` beside it.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from mobilevit_converters.coreml.toolchain import import_coremltools, quiet
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.files import decode_json
from mobilevit_sdk.formats.entries import entry_names
from mobilevit_sdk.formats.runtime import Size
from mobilevit_sdk.spec import ModelSpec, in_pixels

IMAGE = "image"  # what a program of ours takes
MAIN = "main"  # the function; of several image sizes, that of the first
SPEC_KEY = "mobilevit_sdk"  # of the user-defined metadata that holds the ModelSpec
BACKEND_KEY = "mobilevit_sdk_backend"  # ... and the backend that the graph was made for, where one was asked for


class _Item(msgspec.Struct):
    path: str


class _Manifest(msgspec.Struct):
    """The fields of Manifest.json that matter here."""

    itemInfoEntries: dict[str, _Item]
    rootModelIdentifier: str


@dataclass(frozen=True)
class Package:
    """A package that was found to be complete: the parsed model and the folder of its weights.

    `function` is the one that is meant where there are several.
    """

    path: Path
    model: Any  # coremltools.proto.Model_pb2.Model with an mlProgram
    weights: Path
    function: str = MAIN

    @property
    def main(self) -> Any:
        """The function (MIL_pb2.Function)."""
        return self.model.mlProgram.functions[self.function]

    @property
    def interface(self) -> Any:
        """The description of the function's inputs and outputs: of a model with one function, the model's own."""
        named = (each for each in self.model.description.functions if each.name == self.function)
        return next(named, self.model.description)

    def entries(self) -> dict[Size, Package]:
        """By image size, the package with its function. Raises ArtifactError where one of the spec is missing."""
        names = entry_names(self.spec, MAIN)
        if len(names) > 1:
            described = [each.name for each in self.model.description.functions]
            for size, name in names.items():
                if name not in self.model.mlProgram.functions or described.count(name) != 1:
                    raise ArtifactError(f"{self.path} is damaged: it does not hold the function {name} once")
                image = replace(self, function=name).interface.input[0].type.imageType
                if size != (image.height, image.width):
                    raise ArtifactError(f"{self.path} is damaged: {name} takes {image.height}x{image.width}")
        return {size: replace(self, function=name) for size, name in names.items()}

    def entry(self, image_size: Size) -> Package:
        """The one for images of a size, by default the first. Raises ArtifactError for another size."""
        entries = self.entries()
        if image_size is not None and image_size not in entries:
            raise ArtifactError(f"{self.path} has no function for images of {in_pixels(image_size)}")
        return entries[image_size] if image_size else next(iter(entries.values()))

    @property
    def block(self) -> Any:
        """The body of the function (MIL_pb2.Block)."""
        return self.main.block_specializations[self.main.opset]

    @property
    def backend(self) -> str | None:
        """The backend in the metadata, unchecked."""
        return self.model.description.metadata.userDefined.get(BACKEND_KEY)

    @property
    def spec(self) -> ModelSpec | None:
        """The ModelSpec in the metadata, None for a package made by another tool."""
        text = self.model.description.metadata.userDefined.get(SPEC_KEY)
        try:
            return None if text is None else decode_json(text, ModelSpec)
        except ValueError as error:
            raise ArtifactError(f"{self.path} carries a malformed model spec: {error}") from error


def read_package(path: Path) -> Package:
    """Read a package and check that everything it refers to is there and complete.

    Nothing outside the folder is read. Raises ArtifactError for anything but an .mlpackage with an ML Program.
    """
    file = model_file(path)
    model = parse_model(file)
    kind = model.WhichOneof("Type")
    if kind != "mlProgram":
        raise ArtifactError(f"{path} holds {kind or 'no model'}, not an ML Program; convert again for iOS 16 or newer")
    functions = model.mlProgram.functions
    if MAIN not in functions or any(each.opset not in each.block_specializations for each in functions.values()):
        raise ArtifactError(f"{path} has no main function in its program; the file is damaged")
    package = Package(path, model, file.parent / "weights")
    for name in functions:
        _check_weights(replace(package, function=name))
    return package


def model_file(path: Path) -> Path:
    """The model's protobuf inside the package, as Manifest.json names it. Raises ArtifactError."""
    manifest = path / "Manifest.json"
    if not path.is_dir() or not manifest.is_file():
        raise ArtifactError(f"{path} is not an .mlpackage: expected a folder with a Manifest.json")
    try:
        entries = decode_json(manifest.read_bytes(), _Manifest)
        relative = entries.itemInfoEntries[entries.rootModelIdentifier].path
    except (ValueError, KeyError) as error:
        raise ArtifactError(f"{manifest} is malformed: {error}") from error
    return _inside(path, path / "Data" / relative)


def parse_model(file: Path) -> Any:
    """The protobuf message in `file`. Raises ArtifactError when it is not one of Core ML's."""
    import_coremltools()
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    model = Model_pb2.Model()
    try:
        model.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise ArtifactError(f"{file} is not a Core ML model, or is truncated") from error
    return model


def load_program(package: Package) -> Any:
    """The package's program, weights included, as coremltools' `Program`. Raises ArtifactError."""
    import_coremltools()
    from coremltools.converters.mil.frontend.milproto.load import load

    try:
        with quiet():
            return load(
                package.model,
                specification_version=package.model.specificationVersion,
                file_weights_dir=str(package.weights),
            )
    except Exception as error:
        raise ArtifactError(f"coremltools cannot read the program of {package.path}: {error}") from error


def operations(block: Any) -> Iterator[Any]:
    """All operations of a MIL_pb2.Block in order, those of nested blocks included."""
    for operation in block.operations:
        yield operation
        for nested in operation.blocks:
            yield from operations(nested)


def make_identifiers_stable(path: Path) -> None:
    """Name the items of Manifest.json by their paths, so that the same model gives the same package."""
    manifest = path / "Manifest.json"
    document = json.loads(manifest.read_text(encoding="utf-8"))
    stable = {
        key: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])) for key, item in document["itemInfoEntries"].items()
    }
    document["itemInfoEntries"] = {stable[key]: item for key, item in document["itemInfoEntries"].items()}
    document["rootModelIdentifier"] = stable[document["rootModelIdentifier"]]
    manifest.write_text(json.dumps(document, indent=4, sort_keys=True), encoding="utf-8")


def _inside(path: Path, file: Path) -> Path:
    """`file`, unless it is missing or lies outside the package `path`, through links too."""
    try:
        inside, found = file.resolve().is_relative_to(path.resolve()), file.is_file()
    except (OSError, ValueError) as error:  # a name that no file system takes
        raise ArtifactError(f"{path} refers to an impossible file name: {error}") from error
    if not inside:
        raise ArtifactError(f"{path} refers to a file outside itself: {file}")
    if not found:
        raise ArtifactError(f"{path} is incomplete: {file} is missing")
    return file


def _check_weights(package: Package) -> None:
    """Check that each constant kept in a weight file lies wholly within that file.

    In the file (MILBlob, version 2), a record of 64 bytes stands before each constant: the mark 0xDEADBEEF, the data
    type, the size in bytes and the offset of the data, little-endian. The native reader is not asked before this.
    """
    files: dict[str, bytes] = {}
    for value in _values(package.block):
        if value.WhichOneof("value") != "blobFileValue":
            continue
        blob = value.blobFileValue
        if blob.fileName not in files:
            name = blob.fileName.removeprefix("@model_path/weights/")
            if name == blob.fileName or "/" in name:
                raise ArtifactError(f"{package.path} refers to weights outside itself: {blob.fileName}")
            files[blob.fileName] = _inside(package.path, package.weights / name).read_bytes()
        content = files[blob.fileName]
        mark, size, start = 0, 0, 0
        if blob.offset + 64 <= len(content):
            mark, _, size, start = struct.unpack_from("<IIQQ", content, blob.offset)
        if mark != 0xDEADBEEF or start + size > len(content):
            raise ArtifactError(f"{package.path}: {blob.fileName.rsplit('/')[-1]} is truncated or damaged")


def _values(block: Any) -> Iterator[Any]:
    """Every constant value (MIL_pb2.Value) of a block."""
    for operation in operations(block):
        yield from operation.attributes.values()
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.WhichOneof("binding") == "value":
                    yield binding.value
