"""Reading files of tensors: every layout in memory comes back, and a file's word about itself is not taken."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mobilevit_sdk.checkpoints import parallel_read as reading
from mobilevit_sdk.checkpoints import torch_file
from mobilevit_sdk.checkpoints.safetensors_file import open_tensor_file
from mobilevit_sdk.errors import CheckpointError

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.bool]


def read(path: Path) -> dict[str, Tensor]:
    with ThreadPoolExecutor(1) as reader:
        return open_tensor_file(path, path.name, reader).values()


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


@given(tensors=st.lists(views(), min_size=1, max_size=5))
def test_any_tensor_comes_back_from_safetensors(tmp_path: Path, tensors: list[Tensor]) -> None:
    path = tmp_path / "views.safetensors"
    named = {f"t{i}": tensor.contiguous() for i, tensor in enumerate(tensors)}
    safetensors.torch.save_file(named, path)
    assert all(torch.equal(read(path)[name], tensor) for name, tensor in named.items())


@pytest.mark.parametrize("most_buffers", [2, 3, 1024])
@pytest.mark.parametrize("scatter", [True, False])
def test_many_tensors_are_read_in_pieces_of_any_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_buffers: int, scatter: bool
) -> None:
    """With the call that fills many buffers at once, and as on systems that lack it."""
    monkeypatch.setattr(reading, "_MAX_BUFFERS", most_buffers)
    if not scatter:
        monkeypatch.delattr(os, "preadv")
    whole = torch.rand(300)
    named = {f"t{i}": torch.rand(i % 7) for i in range(100)} | {"a": whole[10:200], "b": whole[5:50], "c": whole}
    torch.save(named, tmp_path / "many.pth")
    assert all(torch.equal(read(tmp_path / "many.pth")[name], tensor) for name, tensor in named.items())


def test_reads_that_end_early_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As system calls may, one fills ten bytes at a time."""
    preadv = os.preadv

    def slow(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return preadv(descriptor, [buffers[0][:10]], offset)

    monkeypatch.setattr(os, "preadv", slow)
    named = {"a": torch.rand(33), "b": torch.rand(2), "c": torch.rand(7)}
    torch.save(named, tmp_path / "weights.pth")
    assert all(torch.equal(read(tmp_path / "weights.pth")[name], tensor) for name, tensor in named.items())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.rand(5000), "b": torch.rand(3)}, path)
    return path


@pytest.mark.parametrize("read_ahead", [0, 1 << 29])
def test_files_are_read_while_or_after_they_are_understood(
    weights: Path, monkeypatch: pytest.MonkeyPatch, read_ahead: int
) -> None:
    """Of a large file, which may be of anything, only what is wanted is read."""
    torch.save({"model": torch.load(weights), "optimizer": {"moments": torch.rand(10**5)}}, weights)
    monkeypatch.setattr(torch_file, "_READ_AHEAD", read_ahead)
    with ThreadPoolExecutor(1) as reader:
        file = open_tensor_file(weights, "weights.pth", reader)
        assert {name: tuple(value.shape) for name, value in file.values().items()} == {"a": (5000,), "b": (3,)}
        assert file.reading is not None
        assert len(file.reading.memory) == (3 if read_ahead else 2)


def test_a_file_that_changes_after_it_was_opened_is_not_taken(weights: Path) -> None:
    with ThreadPoolExecutor(1) as reader:
        file = open_tensor_file(weights, "weights.pth", reader)
    torch.save({"a": torch.zeros(5000), "b": torch.zeros(3)}, weights)
    with pytest.raises(CheckpointError, match=r"weights\.pth changed after"):
        file.values()


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda path: os.truncate(path, 3000), r"weights\.pth ended while it was read"),
        (lambda path: path.unlink(), r"cannot read weights\.pth: No such file"),
    ],
)
def test_a_file_that_goes_away_while_it_is_read_is_not_taken(
    weights: Path, harm: Callable[[Path], None], complaint: str
) -> None:
    harmed = threading.Event()
    with ThreadPoolExecutor(1) as reader:
        reader.submit(harmed.wait)  # which keeps the thread busy until then
        file = open_tensor_file(weights, "weights.pth", reader)
        harm(weights)
        harmed.set()
        with pytest.raises(CheckpointError, match=complaint):
            file.values()


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
        open_tensor_file(weights, "weights.pth")


@pytest.mark.parametrize("change", ["cut", "move"])
def test_tensor_that_is_not_exactly_one_part_of_the_archive_is_refused(weights: Path, change: str) -> None:
    rezip(weights, change)
    with pytest.raises(CheckpointError, match=r"weights\.pth has no place of its own for [ab].*save it again"):
        open_tensor_file(weights, "weights.pth")


def test_types_that_are_no_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    safetensors.torch.save_file({"w": torch.ones(4).to(torch.float8_e4m3fn)}, path)
    with pytest.raises(CheckpointError, match=r"holds F8_E4M3 weights \(w\), expected floating point"):
        open_tensor_file(path, "small.safetensors")
