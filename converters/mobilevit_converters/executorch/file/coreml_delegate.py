"""The contents of a Core ML delegate in a .pte file: the files of an .mlpackage, one after the other.

ExecuTorch's delegate stores a folder as one run of bytes: the contents of the files, then an index in JSON, written
backwards so that it can be found from the end. The index lists files (kind 0) and folders (kind 1), a folder
after what lies in it, the outermost one last; a file states where its bytes are, a folder the positions in the list of
what lies in it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.files import decode_json

if TYPE_CHECKING:
    from mobilevit_converters.coreml.file.package import Package

PACKAGE, COMPILED = "model.mlpackage", "model.mlmodelc"
METADATA = "metadata.json"

MAX_INDEX = 1 << 20  # bytes; that of a package takes less than 2 KB
MAX_PATH = 1024  # characters


class Names(msgspec.Struct):
    """Of metadata.json: the program's inputs and outputs in the order of the delegate's arguments."""

    inputNames: tuple[str, ...]
    outputNames: tuple[str, ...]


class _Region(msgspec.Struct):
    offset: int
    size: int


class _Node(msgspec.Struct):
    """A file or a folder of the index."""

    name: str
    kind: Literal[0, 1]
    dataRegion: _Region
    children: dict[str, int]


class _Index(msgspec.Struct):
    nodes: list[_Node]


@dataclass(frozen=True)
class CoreMLDelegate:
    """The files of a delegate by their paths, and the .pte `path` that they come from."""

    path: Path
    files: dict[str, bytes]

    @property
    def is_compiled(self) -> bool:
        """Whether it holds a compiled model, which the phone then prefers and only Core ML can read."""
        return any(name.startswith(f"{COMPILED}/") for name in self.files)

    @property
    def names(self) -> Names:
        try:
            return decode_json(self.files[METADATA], Names)
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"{self.path} is damaged: its Core ML delegate does not name its inputs") from error

    @contextmanager
    def package(self) -> Iterator[Package]:
        """The .mlpackage, unpacked for as long as the context lasts. Raises ArtifactError when it is incomplete."""
        from mobilevit_converters.coreml.file.package import read_package

        if self.is_compiled:
            raise ArtifactError(f"{self.path} holds a compiled Core ML model, which runs on Apple's systems only")
        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.files.items():
                if name.startswith(f"{PACKAGE}/"):
                    file = Path(folder) / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
            try:
                package = read_package(Path(folder) / PACKAGE)
            except ArtifactError as error:
                inside = str(error).replace(f"{folder}/", "")
                raise ArtifactError(f"{self.path} has a damaged Core ML delegate: {inside}") from error
            yield replace(package, path=self.path)


def read_coreml_delegate(path: Path, data: bytes) -> CoreMLDelegate:
    """The files in a Core ML delegate's `data`. Raises ArtifactError when it is malformed.

    Only names inside the outermost folder are accepted, and no byte belongs to two files.
    """
    if data.startswith(b"CMJR"):
        raise ArtifactError(f"{path} shares one Core ML model between several methods, which is not supported")
    try:
        index, _ = json.JSONDecoder().raw_decode(data[-MAX_INDEX:][::-1].decode("latin-1"))
        files = dict(_files(data, msgspec.convert(index, _Index).nodes))
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{path} is damaged: its Core ML delegate has no index of its files ({error})") from error
    return CoreMLDelegate(path, files)


def _files(data: bytes, nodes: list[_Node]) -> Iterator[tuple[str, bytes]]:
    """Every file below the last node by its path. Raises ValueError for an index that is not a tree of `data`."""
    pending, waiting, left = [("", len(nodes) - 1)], set(range(len(nodes))), len(data)
    while pending:
        path, position = pending.pop()
        if position not in waiting:
            raise ValueError(f"it refers to its entry {position} twice, or to none")
        waiting.remove(position)
        node = nodes[position]
        start, end = node.dataRegion.offset, node.dataRegion.offset + node.dataRegion.size
        left -= node.dataRegion.size
        if not 0 <= start <= end <= len(data) or left < 0:
            raise ValueError(f"the bytes of {node.name!r} are not there")
        if node.kind == 0:
            yield path, data[start:end]
        for name, child in node.children.items():
            below = f"{path}/{name}" if path else name
            if name in ("", ".", "..") or set(name) & set("/\\\0") or len(below) > MAX_PATH:
                raise ValueError(f"{name[:40]!r} is not a file name")
            if child in waiting and nodes[child].name != name:
                raise ValueError(f"{name!r} also has another name")
            pending.append((below, child))
