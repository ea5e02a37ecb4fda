"""Step 1, read: names and tensors out of an untrusted file: `.safetensors`, what `torch.save` writes, or .npz.

Nothing in a file is executed. The weights are copied into memory of their own: no file stays mapped, so that one that
is rewritten later cannot take the process down.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mobilevit_sdk.checkpoints import hub
from mobilevit_sdk.checkpoints.foreign import describe_file, describe_folder
from mobilevit_sdk.checkpoints.index_file import check_shards, read_shards
from mobilevit_sdk.checkpoints.npz_file import is_npz, read_npz
from mobilevit_sdk.checkpoints.torch_file import looks_like_torch, read_torch
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.text import count, one_line, shorten

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit

# safetensors' names of the types that a checkpoint may hold.
_TYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}


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
    parts: tuple[FileVersion, ...] = ()  # of an index: the files that it joins

    @classmethod
    def of(cls, path: Path, source: str) -> FileVersion:
        """The file as it is now. Raises OSError and, for a null byte in the name, ValueError."""
        found = path.stat()
        return cls(path, source, _State(found.st_ino, found.st_size, found.st_mtime_ns))

    def check(self) -> None:
        """Raise CheckpointError where the file has changed since."""
        try:
            same = FileVersion.of(self.path, self.source).state == self.state
        except OSError:
            same = False
        if not same:
            raise CheckpointError(f"{self.source} changed after it was opened; load it again")
        for part in self.parts:
            part.check()

    @property
    def size(self) -> int:
        """In bytes, the parts included."""
        return self.state.size + sum(part.size for part in self.parts)

    def sha256(self) -> str:
        """Of the file; of an index, of its own hash and those of its parts.

        Raises CheckpointError where the file has changed since.
        """
        self.check()
        digest, _ = hash_and_size(self.path)
        if self.parts:
            digest = hashlib.sha256(" ".join([digest, *(part.sha256() for part in self.parts)]).encode()).hexdigest()
        self.check()
        return digest


@dataclass(frozen=True)
class TensorFile:
    """Names and tensors, not yet compared with any network, and the metadata of a safetensors header.

    Each tensor is contiguous and the only owner of its memory. `notes` say what was made of the file.
    """

    version: FileVersion
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """What errors call the file."""
        return self.version.source


def read_tensors(source: str | Path) -> TensorFile:
    """Read a local file or `hf-hub:org/name`. The content decides on the format, not the suffix.

    An index (`model.safetensors.index.json`) is read with the files beside it that it joins. Raises CheckpointError
    when the file is missing, truncated, unsafe, changed while it is read, or of none of the formats: safetensors, what
    torch.save writes, and .npz as Google publishes ViT.
    """
    name = str(source)
    path = hub.download(name) if name.startswith(hub.PREFIX) else Path(source)
    version, start = _open(path, name)
    if (shards := read_shards(path, name)) is not None:
        check_shards(path.parent, shards, name)
        file_read = _join(version, shards)
    elif (found := _read(version, start)) is not None:
        file_read = found
    else:
        raise CheckpointError(f"{name} is {describe_file(path, start)}")
    file_read.version.check()
    return file_read


def _open(path: Path, source: str) -> tuple[FileVersion, bytes]:
    """The file as it is now, and its first bytes."""
    try:
        version = FileVersion.of(path, source)
        if path.is_dir():
            raise CheckpointError(f"{source} is {describe_folder(path)}")
        with path.open("rb") as file:
            return version, file.read(64)
    except FileNotFoundError as error:
        raise CheckpointError(f"{source} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise CheckpointError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from error


def _read(version: FileVersion, start: bytes) -> TensorFile | None:
    """The tensors of one file; None where it is of neither format."""
    if start[8:9] == b"{":
        return TensorFile(version, *_read_safetensors(version))
    if start.startswith(b"PK") and is_npz(version.path):
        tensors, notes = read_npz(version.path, version.source)
        return TensorFile(version, tensors, notes=notes)
    if looks_like_torch(start):
        tensors, notes = read_torch(version.path, version.source)
        return TensorFile(version, tensors, notes=notes)
    return None


def _join(version: FileVersion, shards: Mapping[str, list[str]]) -> TensorFile:
    """The tensors of all shards of an index: name of a file -> those of its tensors."""
    tensors: dict[str, Tensor] = {}
    parts, notes = [], [f"joined {count(shards, 'file')} that {version.path.name} names"]
    for name, expected in shards.items():
        source = str(version.path.parent / name)
        shard, start = _open(version.path.parent / name, source)
        found = _read(shard, start)
        if found is None:
            raise CheckpointError(f"{source} is {describe_file(shard.path, start)}")
        if strange := sorted(found.tensors.keys() ^ set(expected)):
            raise CheckpointError(f"{source} does not hold what {version.path.name} says: {shorten(strange)}")
        tensors |= found.tensors
        parts.append(shard)
        notes += found.notes
    return TensorFile(dataclasses.replace(version, parts=tuple(parts)), tensors, notes=tuple(notes))


def _read_safetensors(version: FileVersion) -> tuple[dict[str, Tensor], dict[str, str]]:
    path, source = version.path, version.source
    try:
        # safe_open checks the header against itself and the file; "pread" copies, where the default maps the file.
        with safe_open(path, framework="pt", backend="pread") as file:
            kinds = {name: str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118
            strange = {name: kind for name, kind in kinds.items() if kind not in _TYPES}
            if strange:
                found = ", ".join(sorted(set(strange.values())))
                raise CheckpointError(
                    f"{source} holds {found} weights ({shorten([*strange])}), expected floating point"
                )
            tensors = file.get_tensors()
            return {name: tensors[name] for name in kinds}, file.metadata() or {}
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = _safetensors_defect(path, version.state.size) or one_line(str(error))
        raise CheckpointError(f"{source} is not a complete safetensors file: {reason}") from error


def _safetensors_defect(path: Path, size: int) -> str | None:
    """What the header (8 bytes of length, then JSON) says that does not agree with the size of the file."""
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
