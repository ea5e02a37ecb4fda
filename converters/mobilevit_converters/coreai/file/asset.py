"""An .aimodel asset on disk, read as an untrusted file.

An asset is a folder: `main.mlirb` is the program with its weights, in MLIR's bytecode; `main.hash` is the SHA-256 of
that, 32 bytes; `metadata.json` describes it. What is read here is checked without native code; see `program.py`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.files import decode_json
from mobilevit_sdk.formats.entries import entry_names
from mobilevit_sdk.formats.runtime import Size
from mobilevit_sdk.spec import ModelSpec, in_pixels

IMAGE = "image"  # what a program of ours takes
MAIN = "main"  # the function; of several image sizes, that of the first
SPEC_KEY = "mobilevit_sdk"  # of the creator's metadata that holds the ModelSpec, as JSON in a string
BACKEND_KEY = "mobilevit_sdk_backend"  # ... and the backend that the graph was made for, where one was asked for
_PROGRAM, _HASH, _METADATA = "main.mlirb", "main.hash", "metadata.json"


class Metadata(msgspec.Struct, rename="camel"):
    """The fields of metadata.json that Apple's tools show; other fields are ignored."""

    author: str = ""
    license: str = ""
    description: str = ""
    producer: str = ""
    creator_defined_metadata: dict[str, Any] = {}


@dataclass(frozen=True)
class Asset:
    """An asset that was found to be complete."""

    path: Path
    metadata: Metadata

    @property
    def program(self) -> Path:
        """The program's bytecode."""
        return self.path / _PROGRAM

    @property
    def backend(self) -> str | None:
        """The backend in the metadata, unchecked."""
        found = self.metadata.creator_defined_metadata.get(BACKEND_KEY)
        return None if found is None else str(found)

    @property
    def spec(self) -> ModelSpec | None:
        """The ModelSpec in the metadata, None for an asset made by another tool. Raises ArtifactError."""
        text = self.metadata.creator_defined_metadata.get(SPEC_KEY)
        try:
            return None if text is None else decode_json(text, ModelSpec)
        except (ValueError, TypeError) as error:
            raise ArtifactError(f"{self.path} carries a malformed model spec: {error}") from error


def functions_of(asset: Asset) -> dict[Size, str]:
    """The names of an asset's functions by image size."""
    return entry_names(asset.spec, MAIN)


def function_of(asset: Asset, image_size: Size) -> str:
    """The function for images of a size, by default the first. Raises ArtifactError for another size."""
    functions = functions_of(asset)
    if image_size is not None and image_size not in functions:
        raise ArtifactError(f"{asset.path} has no function for images of {in_pixels(image_size)}")
    return functions[image_size] if image_size else MAIN


def read_asset(path: Path) -> Asset:
    """Read the metadata, and check that the program is the one that was written.

    Nothing outside the folder is read. Raises ArtifactError for anything but a complete .aimodel.
    """
    if not path.is_dir():
        raise ArtifactError(f"{path} is not an .aimodel: expected a folder with a {_PROGRAM}")
    for name in (_PROGRAM, _HASH, _METADATA):
        file = path / name
        if file.is_symlink():
            raise ArtifactError(f"{path} refers to a file outside itself: {file}")
        if not file.is_file():
            raise ArtifactError(f"{path} is not an .aimodel, or is incomplete: {file} is missing")
    if hashlib.sha256((path / _PROGRAM).read_bytes()).digest() != (path / _HASH).read_bytes():
        raise ArtifactError(f"{path} is damaged: the SHA-256 of {_PROGRAM} is not the one in {_HASH}")
    try:
        metadata = decode_json((path / _METADATA).read_bytes(), Metadata)
    except ValueError as error:
        raise ArtifactError(f"{path / _METADATA} is malformed: {error}") from error
    return Asset(path, metadata)


def make_metadata_stable(path: Path) -> None:
    """Sort the fields of metadata.json and leave out the time: Apple's library writes them in a random order."""
    file = path / _METADATA
    document = json.loads(file.read_text(encoding="utf-8"))
    document.pop("creationDate", None)
    file.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
