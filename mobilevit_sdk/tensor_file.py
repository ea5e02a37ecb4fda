"""Tensors out of files of strangers: `.safetensors` and what `torch.save` writes. Nothing in them is executed.

Opening a file reads names, types and shapes alone. The weights are read once it is known which of them are wanted, into
memory of their own: no file stays mapped, so one that is rewritten later cannot take the process down.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.text import one_line, shorten
from mobilevit_sdk.torch_file import looks_like_torch, read_torch

_EXPECTED = "expected a .safetensors file or a PyTorch checkpoint (.pth, .pt, .bin)"
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit

READERS = 1  # threads that read a file: most of their time goes into making memory for it
_LARGEST_GAP = 4096  # bytes between two tensors that are read over
_MOST_BUFFERS = 1024  # that Linux and macOS fill in one call

# What else people end up with, by its first bytes.
_FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer; `git lfs pull` fetches the file itself"),
    (b"<", "a web page or XML, perhaps the error page of a download"),
    (b"{", "JSON"),
    (b"\x89HDF", "HDF5, as Keras writes it"),
    (b"GGUF", "GGUF"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
)

# safetensors' names of the types that weights come in.
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


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


@dataclass(frozen=True)
class TensorFile:
    """Names and tensors, still unchecked against any network, and the metadata of a safetensors header.

    `tensors` have types and shapes alone; `start_reading` brings their values. `notes` say what was made of the file.
    """

    version: FileVersion
    tensors: dict[str, Tensor]
    offsets: dict[str, int] | None  # where each begins in the file; None: `tensors` are in memory with their values
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def start_reading(self, reader: Executor) -> Callable[[], dict[str, Tensor]]:
        """Begin to read all tensors, each into memory of its own; what is returned waits and gives them.

        `reader` does it beside other work, in `READERS` tasks. Waiting raises CheckpointError where the file has
        changed since it was opened.
        """
        if self.offsets is None:
            return lambda: {name: tensor.detach().clone().contiguous() for name, tensor in self.tensors.items()}
        # Memory is made here and not in the thread, which would wait for Python's lock each time.
        memory = {name: torch.empty(_bytes(tensor), dtype=torch.uint8) for name, tensor in self.tensors.items()}
        pieces = [(offset, memory[name].numpy().data) for name, offset in self.offsets.items()]
        pieces.sort(key=lambda piece: piece[0])
        share = sum(len(buffer) for _, buffer in pieces) // READERS + 1
        reading = [reader.submit(self._read, start, buffers) for start, buffers in _runs(pieces, share)]

        def finish() -> dict[str, Tensor]:
            for task in reading:
                task.result()
            self.version.check()
            return {
                name: memory.pop(name).view(like.dtype).as_strided(like.shape, like.stride()).contiguous()
                for name, like in self.tensors.items()
            }

        return finish

    def _read(self, start: int, buffers: list[memoryview]) -> None:
        try:
            with self.version.path.open("rb", buffering=0) as file:
                complete = _read_into(file, start, buffers)
        except OSError as error:
            raise CheckpointError(f"cannot read {self.version.source}: {error.strerror or error}") from error
        if not complete:
            raise CheckpointError(f"{self.version.source} ended while it was read; load it again")


def _bytes(tensor: Tensor) -> int:
    """From the first element to the last, with what strides leave out between them."""
    if not tensor.numel():
        return 0
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return int(span * tensor.element_size())


def _runs(pieces: list[tuple[int, memoryview]], most_bytes: int) -> Iterator[tuple[int, list[memoryview]]]:
    """Where to start to read, and into what: pieces in the order of the file, and the small gaps between them.

    A run has `most_bytes`, or a single piece, or what was left.
    """
    gaps = memoryview(bytearray(_LARGEST_GAP))
    start = end = 0
    run: list[memoryview] = []
    for offset, buffer in pieces:
        gap = offset - end
        is_full = len(run) + 2 > _MOST_BUFFERS or offset + len(buffer) - start > most_bytes
        if run and (is_full or not 0 <= gap <= _LARGEST_GAP):
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


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are. Their sum is fast to make and says so, unless it overflows by itself.

    Summed by NumPy, in one thread: on a busy machine, torch's threads would wait for each other at every tensor.
    """
    if not tensor.is_floating_point():
        return True
    values = tensor.numpy()
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def open_tensor_file(path: Path, source: str) -> TensorFile:
    """Read names and shapes of `path`, which errors call `source`. The content decides on the format, not the suffix.

    Raises CheckpointError when the file is missing, truncated, unsafe, or none of the two formats.
    """
    try:
        version = FileVersion.of(path, source)
        if path.is_dir():
            raise CheckpointError(f"{source} is a folder; name the checkpoint file in it")
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError as error:
        raise CheckpointError(f"{source} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise CheckpointError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from error
    size = version.state.size
    if size == 0:
        raise CheckpointError(f"{source} is empty; {_EXPECTED}")
    if start[8:9] == b"{":
        return _open_safetensors(version)
    if looks_like_torch(start):
        tensors, offsets, notes = read_torch(path, source)
        return TensorFile(version, tensors, offsets, notes=notes)
    if path.suffix == ".safetensors" and size <= 8:
        raise CheckpointError(f"{source} is truncated: it ends after {size} bytes, before the header of the format")
    looks = next(
        (name for magic, name in _FOREIGN if start.lstrip().startswith(magic)),
        f"something that starts with {start[:8]!r}",
    )
    raise CheckpointError(f"{source} is {looks}; {_EXPECTED}")


def _open_safetensors(version: FileVersion) -> TensorFile:
    path, source = version.path, version.source
    try:
        with safe_open(path, framework="pt") as file:  # which checks the header against itself and the file
            names, metadata = list(file.keys()), file.metadata() or {}
        with path.open("rb") as stream:
            header_bytes = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(header_bytes))
        strange = {name: header[name]["dtype"] for name in names if header[name]["dtype"] not in _TYPES}
        if strange:
            kinds = ", ".join(sorted(set(strange.values())))
            raise CheckpointError(f"{source} holds {kinds} weights ({shorten(list(strange))}), expected floating point")
        tensors = {
            name: torch.empty(header[name]["shape"], dtype=_TYPES[header[name]["dtype"]], device="meta")
            for name in names
        }
        offsets = {name: 8 + header_bytes + header[name]["data_offsets"][0] for name in names}
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = _safetensors_defect(path, version.state.size) or one_line(str(error))
        raise CheckpointError(f"{source} is no complete safetensors file: {reason}") from error
    return TensorFile(version, tensors, offsets, metadata)


def _safetensors_defect(path: Path, size: int) -> str | None:
    """What the header (8 bytes of length, then JSON) says against the size of the file."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > _MAX_HEADER_BYTES:
            return f"it claims a header of {header_bytes:,} bytes"
        if 8 + header_bytes > size:
            return f"it is truncated, at least {8 + header_bytes - size:,} bytes are missing"
        try:
            header = json.loads(file.read(header_bytes))
            expected = (
                8 + header_bytes + max(int(t["data_offsets"][1]) for n, t in header.items() if n != "__metadata__")
            )
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
            return None
    if expected > size:
        return f"it is truncated, {expected - size:,} of {expected:,} bytes are missing"
    if expected < size:
        return f"{size - expected:,} bytes follow the {expected:,} that its header describes"
    return None
