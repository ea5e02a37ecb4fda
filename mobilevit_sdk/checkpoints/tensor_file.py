"""Step 1, read: names and tensors out of an untrusted file, `.safetensors` or what `torch.save` writes.

Nothing in a file is executed. The weights are copied into memory of their own: no file stays mapped, so that one that
is rewritten later cannot take the process down.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mobilevit_sdk.checkpoints import hub
from mobilevit_sdk.checkpoints.torch_file import looks_like_torch, read_torch
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.text import one_line, shorten

_EXPECTED = "expected a .safetensors file or a PyTorch checkpoint (.pth, .pt, .bin)"
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit

# What else people end up with, by its first bytes.
_FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer; `git lfs pull` fetches the file itself"),
    (b"<", "a web page or XML, perhaps the error page of a download"),
    (b"{", "JSON"),
    (b"\x89HDF", "HDF5, as Keras writes it"),
    (b"GGUF", "GGUF"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
)

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

    Raises CheckpointError when the file is missing, truncated, unsafe, changed while it is read, or neither of the
    two formats.
    """
    name = str(source)
    path = hub.download(name) if name.startswith(hub.PREFIX) else Path(source)
    try:
        version = FileVersion.of(path, name)
        if path.is_dir():
            raise CheckpointError(f"{name} is a folder; name the checkpoint file in it")
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError as error:
        raise CheckpointError(f"{name} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise CheckpointError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
    if start[8:9] == b"{":
        tensors, metadata = _read_safetensors(version)
        file_read = TensorFile(version, tensors, metadata)
    elif looks_like_torch(start):
        tensors, notes = read_torch(path, name)
        file_read = TensorFile(version, tensors, notes=notes)
    else:
        raise CheckpointError(f"{name} is {_describe(path, start)}")
    version.check()
    return file_read


def _describe(path: Path, start: bytes) -> str:
    """What a file that is neither format seems to be."""
    if not start:
        return f"empty; {_EXPECTED}"
    if path.suffix == ".safetensors" and len(start) <= 8:
        return f"truncated: it ends after {len(start)} bytes, before the header of the format"
    looks = (name for magic, name in _FOREIGN if start.lstrip().startswith(magic))
    return f"{next(looks, f'something that starts with {start[:8]!r}')}; {_EXPECTED}"


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
