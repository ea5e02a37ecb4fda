"""What else than weights of PyTorch a file or a folder looks like, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

_EXPECTED = "expected a .safetensors file or a PyTorch checkpoint (.pth, .pt, .bin)"
_CONVERTED = "which a checkpoint was converted to; give that checkpoint"
_OTHER = "which holds no weights of PyTorch; give the PyTorch checkpoint"
_UNPACK = "unpack it and give the checkpoint in it"

# The first bytes of a file -> what it looks like and what to do.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (rb"version https://git-lfs", "a Git LFS pointer; `git lfs pull` fetches the file itself"),
    (rb"\s*<", "a web page or XML, perhaps the error page of a download; download the file itself"),
    (rb"\s*[{\[]", "JSON; give the weights that it stands beside"),
    (rb"\x89HDF", f"HDF5, as Keras writes it, {_OTHER}"),
    (rb"\x93NUMPY", f"an array of NumPy (.npy), {_OTHER}"),
    (rb"GGUF", f"GGUF, {_OTHER}"),
    (rb"....TFL3", f"a .tflite file, {_CONVERTED}"),
    (rb"....ET\d\d", f"a .pte file of ExecuTorch, {_CONVERTED}"),
    (rb"\x08[\x01-\x20](\x12|:|B)", f"an ONNX file, {_CONVERTED}"),
    (rb"\x1f\x8b", f"a gzip archive; {_UNPACK}"),
    (rb"7z\xbc\xaf|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|Rar!", f"a compressed archive; {_UNPACK}"),
    (rb"PAR1", "a Parquet file, perhaps of images; give the checkpoint"),
    (rb"\x89PNG|\xff\xd8\xff|RIFF", "a picture; give the checkpoint"),
)

# For formats without such a mark, the suffix.
_SUFFIXES = {
    ".onnx": f"an ONNX file, {_CONVERTED}",
    ".msgpack": f"a msgpack file, as Flax writes it, {_OTHER}",
    ".mlmodel": f"a model of Core ML, {_CONVERTED}",
    ".pb": f"a graph of TensorFlow, {_OTHER}",
    ".tar": f"a tar archive; {_UNPACK}",
}

# The names in a zip archive that torch.save did not write.
_PARTS = (
    (r".+\.npy", f"an archive of NumPy's arrays (.npz), {_OTHER}"),
    (r"(.*/)?model\.weights\.h5", f"a .keras file, {_OTHER}"),
    (r"(.*/)?(archive_format|models/model\.(json|pt2))", "a program of torch.export; save its .state_dict instead"),
    (r"(.*/)?constants\.pkl", "a TorchScript archive, which holds a program; {jit}"),
    (r"(.*/)?Manifest\.json", f"a zipped Core ML package, {_CONVERTED}"),
    (r"[^/]+\.dist-info/.+", "a Python wheel; give the checkpoint"),
    (r".+\.(pth|pt|bin|ckpt|safetensors)", f"a zip archive with {{part}} in it; {_UNPACK}"),
)
_JIT = 'save its weights: torch.save(torch.jit.load(FILE).state_dict(), "weights.pth")'


def describe_file(path: Path, start: bytes) -> str:
    """What a file that starts like this and is no checkpoint seems to be, and what to do."""
    if not start:
        return f"empty; copy or download it again; {_EXPECTED}"
    if path.suffix == ".safetensors" and len(start) <= 8:
        return f"truncated: it ends after {len(start)} bytes, before the header of the format"
    for magic, looks in _MAGIC:
        if re.match(magic, start, re.DOTALL):
            return looks
    if (looks_by_name := _SUFFIXES.get(path.suffix.lower())) is not None:
        return looks_by_name
    return f"something that starts with {start[:8]!r}; {_EXPECTED}"


def describe_archive(names: Collection[str]) -> str | None:
    """What a zip archive with these parts seems to be, and what to do; None for one of torch.save."""
    for part, looks in _PARTS:
        if (found := next((name for name in names if re.fullmatch(part, name)), None)) is not None:
            return looks.format(part=found, jit=_JIT)
    if not any(name.endswith("data.pkl") for name in names):
        return f"a zip archive that torch.save did not write; {_EXPECTED}"
    return None


def describe_folder(path: Path) -> str:
    """What a folder seems to be, and what to do."""
    if path.suffix == ".mlpackage" or (path / "Manifest.json").is_file():
        return f"a Core ML package, {_CONVERTED}"
    if (path / "saved_model.pb").is_file():
        return f"a SavedModel of TensorFlow, {_OTHER}"
    inside = sorted(
        each.name for each in path.iterdir() if each.suffix in (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
    )
    return f"a folder; name the checkpoint file in it{f', such as {path / inside[0]}' if inside else ''}"
