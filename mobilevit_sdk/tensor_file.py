"""Tensors out of files of strangers: `.safetensors` and what `torch.save` writes. Nothing in them is executed."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mobilevit_sdk.errors import CheckpointError

_EXPECTED = "expected a .safetensors file or a PyTorch checkpoint (.pth, .pt, .bin)"
_ZIP = b"PK\x03\x04"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
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

# Where trainers keep the weights inside a checkpoint. The first present wins: averaged weights are the ones to deploy.
_CONTAINERS = ("state_dict_ema", "ema_state_dict", "model_ema", "state_dict", "model_state_dict", "model")
_MAX_NESTING = 3

# Put before every name by DistributedDataParallel and torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class TensorFile:
    """Names and tensors, and the metadata of a safetensors header; all still unchecked against any network."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def read_tensor_file(path: Path, source: str) -> TensorFile:
    """Read the tensors of `path`, which errors call `source`. The content decides on the format, not the suffix.

    Raises CheckpointError when the file is missing, truncated, unsafe, or none of the two formats.
    """
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise CheckpointError(f"{source} is a folder; name the checkpoint file in it")
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError as error:
        raise CheckpointError(f"{source} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise CheckpointError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from error
    if size == 0:
        raise CheckpointError(f"{source} is empty; {_EXPECTED}")
    if start[8:9] == b"{":
        return _read_safetensors(path, source, size)
    if start.startswith(_ZIP) or _PICKLE.match(start):
        return TensorFile(_read_torch(path, source, zipped=start.startswith(_ZIP)))
    if path.suffix == ".safetensors" and size <= 8:
        raise CheckpointError(f"{source} is truncated: it ends after {size} bytes, before the header of the format")
    looks = next(
        (name for magic, name in _FOREIGN if start.lstrip().startswith(magic)),
        f"something that starts with {start[:8]!r}",
    )
    raise CheckpointError(f"{source} is {looks}; {_EXPECTED}")


def _read_safetensors(path: Path, source: str, size: int) -> TensorFile:
    try:
        with safe_open(path, framework="pt") as file:
            return TensorFile({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = _safetensors_defect(path, size) or one_line(str(error))
        raise CheckpointError(f"{source} is no complete safetensors file: {reason}") from error


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


def _read_torch(path: Path, source: str, *, zipped: bool) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below says it in one line
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # the formats have many ways to be broken, and torch reports them with many types
        raise CheckpointError(f"{source} {_torch_defect(error)}") from error
    return _without_wrappers(_state_dict(content, source))


def _torch_defect(error: Exception) -> str:
    message = one_line(str(error), limit=2000)
    if "TorchScript" in message:
        return "is a TorchScript archive, which holds a program; save the model's state_dict() instead"
    if culprit := re.search(r"GLOBAL ([\w.]+)", message):
        return f"holds more than tensors ({culprit[1]}), and loading it could run code; save the state_dict() alone"
    if isinstance(error, pickle.UnpicklingError):
        return "is damaged, or a pickle that torch.save did not write; save the state_dict() with torch.save"
    if isinstance(error, EOFError) or "unexpected EOF" in message or "zip archive" in message:
        return "is a truncated or damaged PyTorch checkpoint; download or copy it again"
    return f"cannot be read as a PyTorch checkpoint: {message[:200] or type(error).__name__}"


def _state_dict(content: Any, source: str) -> dict[str, Tensor]:
    """The names and tensors inside what torch.load returned."""
    for _ in range(_MAX_NESTING):
        outer = content if isinstance(content, dict) else {}
        content = next((outer[key] for key in _CONTAINERS if isinstance(outer.get(key), dict)), content)
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{source} holds {_describe(content)}, expected a state_dict: names and tensors")
    others = [str(name) for name, value in content.items() if not (isinstance(name, str) and _is_plain(value))]
    if others:
        raise CheckpointError(f"{source} holds no plain tensors in {shorten(others)}; save the state_dict() alone")
    return dict(content)


def _is_plain(value: object) -> bool:
    """Whether this is a dense tensor whose elements are all in the file, so that its shape is no empty claim."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _describe(content: Any) -> str:
    if isinstance(content, dict):
        return f"a dictionary with {shorten([str(key) for key in content])}" if content else "an empty dictionary"
    return f"a {type(content).__name__}"


def _without_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in _WRAPPERS if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def shorten(names: list[str], shown: int = 3) -> str:
    """A few names and how many more there are."""
    more = len(names) - shown
    return ", ".join(one_line(name) for name in names[:shown]) + (f" and {more} more" if more > 0 else "")


def one_line(text: str, limit: int = 200) -> str:
    """Text out of a file, fit for a terminal: on one line, without control characters, not longer than `limit`."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:limit]
