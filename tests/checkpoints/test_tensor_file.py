"""Reading files of tensors: every layout in memory comes back, and a file's word about itself is not taken."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mobilevit_sdk.checkpoints import tensor_file
from mobilevit_sdk.checkpoints.tensor_file import read_tensors
from mobilevit_sdk.errors import CheckpointError

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.bool]


def read(path: Path) -> dict[str, Tensor]:
    return read_tensors(path).tensors


@st.composite
def views(draw: st.DrawFn) -> Tensor:
    """A tensor somewhere in a storage: sliced, permuted, stepped over, expanded, of any type, perhaps empty."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    storage = (torch.rand([size + 2 for size in shape]) * 100).to(draw(st.sampled_from(DTYPES)))
    for axis, size in enumerate(shape):
        start = draw(st.integers(0, 1))
        storage = storage.narrow(axis, start, size)
    if shape and draw(st.booleans()):
        storage = storage[:: draw(st.integers(1, 2))]
    return storage.permute(draw(st.permutations(range(storage.ndim))))


@FEW
@given(tensors=st.lists(views(), min_size=1, max_size=5), legacy=st.booleans(), twice=st.booleans())
def test_any_view_comes_back_from_torch_save(tmp_path: Path, tensors: list[Tensor], legacy: bool, twice: bool) -> None:
    path = tmp_path / "views.pth"
    named = {f"t{i}": tensor for i, tensor in enumerate([*tensors, *(tensors if twice else [])])}
    torch.save(named, path, _use_new_zipfile_serialization=not legacy)
    found = read(path)
    assert found.keys() == named.keys()
    owned = [tensor.data_ptr() for tensor in found.values() if tensor.numel()]
    assert len(set(owned)) == len(owned)
    for name, tensor in named.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
        assert found[name].is_contiguous()
        assert found[name].untyped_storage().nbytes() == found[name].nbytes  # and no more: none has two owners


@FEW
@given(tensors=st.lists(views(), min_size=1, max_size=5))
def test_any_tensor_comes_back_from_safetensors(tmp_path: Path, tensors: list[Tensor]) -> None:
    path = tmp_path / "views.safetensors"
    named = {f"t{i}": tensor.contiguous() for i, tensor in enumerate(tensors)}
    safetensors.torch.save_file(named, path)
    assert all(torch.equal(read(path)[name], tensor) for name, tensor in named.items())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.rand(5000), "b": torch.rand(3)}, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "change", [lambda path: path.write_bytes(path.read_bytes() + b"0"), lambda path: path.unlink()]
)
def test_file_that_changes_while_it_is_read_is_not_taken(
    weights: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, change: Callable[[Path], None]
) -> None:
    path = weights.with_suffix(suffix)
    if suffix == ".safetensors":
        safetensors.torch.save_file(torch.load(weights), path)
    reader = {".pth": "read_torch", ".safetensors": "_read_safetensors"}[suffix]
    read_values = getattr(tensor_file, reader)

    def read_and_change(*arguments: Any) -> Any:
        values = read_values(*arguments)
        change(path)
        return values

    monkeypatch.setattr(tensor_file, reader, read_and_change)
    with pytest.raises(CheckpointError, match=rf"weights\{suffix} changed after it was opened"):
        read_tensors(path)


@pytest.mark.parametrize("kept", [1000, 12_000])
def test_file_that_is_cut_after_its_header_was_read_is_not_taken(
    weights: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """The values are read, not mapped: a file that ends early is an error, where a mapped one would end the process."""
    path = weights.with_suffix(".safetensors")
    safetensors.torch.save_file(torch.load(weights), path)
    opened = tensor_file.safe_open

    def open_and_cut(*arguments: Any, **options: Any) -> Any:
        file = opened(*arguments, **options)
        os.truncate(path, kept)
        return file

    monkeypatch.setattr(tensor_file, "safe_open", open_and_cut)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is not a complete safetensors file"):
        read_tensors(path)


def rezip(path: Path, change: str) -> None:
    """Write the parts of what torch.save wrote once more, compressed, or with one of them cut short."""
    with zipfile.ZipFile(path) as archive:
        parts = [(part, archive.read(part)) for part in archive.infolist()]
    kind = zipfile.ZIP_DEFLATED if change == "compress" else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for part, content in parts:
            cut = change == "cut" and part.filename.endswith("data/0")
            archive.writestr(part.filename, content[:-4] if cut else content)


def test_compressed_archive_is_refused(weights: Path) -> None:
    """torch would unpack it, whatever its size."""
    rezip(weights, "compress")
    with pytest.raises(CheckpointError, match=r"its parts are compressed, which torch\.save never does"):
        read_tensors(weights)


def test_archive_whose_parts_overlap_is_refused(weights: Path) -> None:
    """Many parts that share their bytes would unpack to many times the size of the file."""
    content = weights.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    size, start = struct.unpack("<II", content[end + 12 : end + 20])
    directory = content[start : start + size]
    with zipfile.ZipFile(weights) as archive:
        parts = len(archive.infolist())
    changed = content[end : end + 8] + struct.pack("<HHII", 50 * parts, 50 * parts, 50 * size, start) + b"\0\0"
    weights.write_bytes(content[:start] + 50 * directory + changed)
    with pytest.raises(CheckpointError, match="its parts overlap"):
        read_tensors(weights)


def test_tensor_whose_part_of_the_archive_is_cut_short_is_refused(weights: Path) -> None:
    rezip(weights, "cut")
    with pytest.raises(CheckpointError, match="is a truncated or damaged PyTorch checkpoint"):
        read_tensors(weights)


def test_archive_packed_again_holds_the_same_tensors(weights: Path) -> None:
    """Its parts stand elsewhere than where torch.save aligns them."""
    before = read(weights)
    rezip(weights, "move")
    assert all(torch.equal(tensor, before[name]) for name, tensor in read(weights).items())


class Rebuilt:
    """A tensor of a size that its storage does not have."""

    def __init__(self, tensor: Tensor, *size: int) -> None:
        self.tensor, self.size = tensor, size

    def __reduce__(self) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        storage = torch.storage.TypedStorage(
            wrap_storage=self.tensor.untyped_storage(), dtype=self.tensor.dtype, _internal=True
        )
        return torch._utils._rebuild_tensor_v2, (storage, 0, self.size, (1,), False, OrderedDict())


@pytest.mark.parametrize("legacy", [False, True])
def test_tensor_that_is_larger_than_its_storage_is_refused(tmp_path: Path, legacy: bool) -> None:
    """Else it would hold whatever stood in memory before."""
    path = tmp_path / "claim.pth"
    torch.save({"a": Rebuilt(torch.rand(5000), 6000)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError):
        read_tensors(path)


@pytest.mark.parametrize(
    "offsets",
    [[(0, 16), (8, 24)], [(0, 16), (0, 16)], [(0, 16), (24, 40)], [(16, 0), (16, 32)]],
    ids=["overlap", "twice", "gap", "reversed"],
)
def test_tensors_that_do_not_stand_side_by_side_are_refused(tmp_path: Path, offsets: list[tuple[int, int]]) -> None:
    header = {f"t{i}": {"dtype": "F32", "shape": [4], "data_offsets": each} for i, each in enumerate(offsets)}
    encoded = json.dumps(header).encode()
    path = tmp_path / "offsets.safetensors"
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(max(end for _, end in offsets)))
    with pytest.raises(CheckpointError, match="is not a complete safetensors file"):
        read_tensors(path)


def test_types_that_are_no_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    safetensors.torch.save_file({"w": torch.ones(4).to(torch.float8_e4m3fn)}, path)
    with pytest.raises(CheckpointError, match=r"holds F8_E4M3 weights \(w\), expected floating point"):
        read_tensors(path)
