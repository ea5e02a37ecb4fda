"""Tensors out of files of strangers: `.safetensors` and what `torch.save` writes. Nothing in them is executed.

Opening a file reads names, types and shapes alone; a thread may begin to read the weights meanwhile. They get memory of
their own: no file stays mapped, so one that is rewritten later cannot take the process down.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mobilevit_sdk.checkpoints.parallel_read import FileVersion, Reading
from mobilevit_sdk.checkpoints.torch_file import looks_like_torch, read_torch
from mobilevit_sdk.errors import CheckpointError
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


@dataclass(frozen=True)
class TensorFile:
    """Names and tensors, still unchecked against any network, and the metadata of a safetensors header.

    `tensors` have types and shapes alone; `values` waits for the rest. `notes` say what was made of the file.
    """

    version: FileVersion
    tensors: dict[str, Tensor]
    places: dict[str, int] | None  # where the memory of each begins in the file; None: the values are in `tensors`
    reading: Reading | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def values(self) -> dict[str, Tensor]:
        """The tensors, contiguous, each in memory of its own. Raises CheckpointError as `Reading.wait` does."""
        if self.places is None:
            return {name: tensor.detach().clone().contiguous() for name, tensor in self.tensors.items()}
        assert self.reading is not None, "the file was opened without a reader"
        pieces = self.reading.wait()
        users = Counter(self.places.values())
        empty = {name: torch.empty(t.shape, dtype=t.dtype) for name, t in self.tensors.items() if not t.numel()}
        return empty | {
            name: _view(pieces[place], self.tensors[name], shared=users[place] > 1)
            for name, place in self.places.items()
        }


def _view(piece: Tensor, like: Tensor, *, shared: bool) -> Tensor:
    """The tensor whose type, shape and strides are those of `like`, out of the bytes of its storage."""
    whole = piece[: len(piece) // like.element_size() * like.element_size()].view(like.dtype)
    found = whole.as_strided(like.shape, like.stride(), like.storage_offset()).contiguous()
    return found.clone() if shared or found.nbytes < len(piece) else found


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are. Their sum is fast to make and says so, unless it overflows by itself.

    Summed by NumPy, in one thread: on a busy machine, torch's threads would wait for each other at every tensor.
    """
    if not tensor.is_floating_point():
        return True
    values = tensor.numpy()
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def open_tensor_file(path: Path, source: str, reader: Executor | None = None) -> TensorFile:
    """Read names and shapes of `path`, which errors call `source`. The content decides on the format, not the suffix.

    `reader` is a thread that begins at once to read the values. Raises CheckpointError when the file is missing,
    truncated, unsafe, or none of the two formats.
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
        return _open_safetensors(version, reader)
    if looks_like_torch(start):
        tensors, places, reading, notes = read_torch(version, reader)
        return TensorFile(version, tensors, places, reading, notes=notes)
    if path.suffix == ".safetensors" and size <= 8:
        raise CheckpointError(f"{source} is truncated: it ends after {size} bytes, before the header of the format")
    looks = next(
        (name for magic, name in _FOREIGN if start.lstrip().startswith(magic)),
        f"something that starts with {start[:8]!r}",
    )
    raise CheckpointError(f"{source} is {looks}; {_EXPECTED}")


def _open_safetensors(version: FileVersion, reader: Executor | None) -> TensorFile:
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
        places = {name: 8 + header_bytes + header[name]["data_offsets"][0] for name in names if tensors[name].numel()}
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = _safetensors_defect(path, version.state.size) or one_line(str(error))
        raise CheckpointError(f"{source} is no complete safetensors file: {reason}") from error
    pieces = {place: tensors[name].nbytes for name, place in places.items()}
    reading = Reading(version, pieces, reader) if reader is not None else None
    return TensorFile(version, tensors, places, reading, metadata)


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
