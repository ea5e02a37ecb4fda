"""Pieces of a file, read into memory of their own by a thread beside other work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import hash_and_size

_MAX_GAP = 4096  # bytes between two pieces that are read over
_MAX_BUFFERS = 1024  # that Linux and macOS fill in one call


class _State(NamedTuple):
    """What changes when a file is replaced or written to."""

    inode: int
    size: int
    modified_ns: int


@dataclass(frozen=True)
class FileVersion:
    """A file as it was at one moment."""

    path: Path
    source: str  # what errors call it
    state: _State

    @classmethod
    def of(cls, path: Path, source: str) -> FileVersion:
        """The file as it is now. Raises OSError and, for a null byte in the name, ValueError."""
        found = path.stat()
        return cls(path, source, _State(found.st_ino, found.st_size, found.st_mtime_ns))

    def check(self) -> None:
        """Raise CheckpointError where the file has changed since."""
        try:
            same = FileVersion.of(self.path, self.source) == self
        except OSError:
            same = False
        if not same:
            raise CheckpointError(f"{self.source} changed after it was opened; load it again")

    def sha256(self) -> str:
        """Raises CheckpointError where the file has changed since."""
        self.check()
        digest, _ = hash_and_size(self.path)
        self.check()
        return digest


class Reading:
    """Pieces of a file on their way into memory; `reader` is a thread that does it."""

    def __init__(self, version: FileVersion, pieces: Mapping[int, int], reader: Executor) -> None:
        """Begin. `pieces`: where each begins in the file -> its bytes."""
        self.version = version
        # Memory is made here and not in the thread, which would wait for Python's lock each time.
        self.memory = {offset: torch.empty(size, dtype=torch.uint8) for offset, size in sorted(pieces.items())}
        buffers = [(offset, memory.numpy().data) for offset, memory in self.memory.items()]
        self._done = reader.submit(self._read, list(_runs(buffers)))

    def wait(self) -> dict[int, Tensor]:
        """The bytes of every piece. Raises CheckpointError where the file could not be read, or has changed since."""
        self._done.result()
        self.version.check()
        return self.memory

    def _read(self, runs: list[tuple[int, list[memoryview]]]) -> None:
        try:
            with self.version.path.open("rb", buffering=0) as file:
                complete = all(_read_into(file, start, buffers) for start, buffers in runs)
        except OSError as error:
            raise CheckpointError(f"cannot read {self.version.source}: {error.strerror or error}") from error
        if not complete:
            raise CheckpointError(f"{self.version.source} ended while it was read; load it again")


def _runs(buffers: list[tuple[int, memoryview]]) -> Iterator[tuple[int, list[memoryview]]]:
    """Where to start to read, and into what: buffers in the order of the file, and the small gaps between them."""
    gaps = memoryview(bytearray(_MAX_GAP))
    start = end = 0
    run: list[memoryview] = []
    for offset, buffer in buffers:
        gap = offset - end
        if run and (not 0 <= gap <= _MAX_GAP or len(run) + 2 > _MAX_BUFFERS):
            yield start, run
            run = []
        if not run:
            start = offset
        elif gap:
            run.append(gaps[:gap])
        if buffer:
            run.append(buffer)
        end = offset + len(buffer)
    yield start, run


def _read_into(file: FileIO, position: int, buffers: list[memoryview]) -> bool:
    """Fill the buffers from `position` on; False where the file ends before."""
    while buffers:
        if hasattr(os, "preadv"):  # not on Windows
            count = os.preadv(file.fileno(), buffers, position)
        else:
            file.seek(position)
            count = file.readinto(buffers[0])
        if not count:
            return False
        position += count
        while buffers and count >= len(buffers[0]):
            count -= len(buffers.pop(0))
        if count:
            buffers[0] = buffers[0][count:]
    return True
