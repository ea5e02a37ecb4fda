"""Files that are truncated, damaged or of another kind: refused in one line, or read as what they hold."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
import torch
from helpers import refused, tiny_model
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.spec import ModelSpec

KINDS = ["weights.safetensors", "weights.pth", "legacy.pth"]


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    """What each file holds. Without our header, a file has to hold a network of the registry."""
    xxs = create_model("mobilevit_xxs", num_classes=4)
    return {"weights.safetensors": tiny_model()[0], "weights.pth": xxs, "legacy.pth": xxs}


@pytest.fixture(scope="module")
def files(networks: dict[str, torch.nn.Module]) -> dict[str, bytes]:
    """A network in each format that we read."""
    zipped, legacy = io.BytesIO(), io.BytesIO()
    torch.save(networks["weights.pth"].state_dict(), zipped)
    torch.save(networks["legacy.pth"].state_dict(), legacy, _use_new_zipfile_serialization=False)
    own = {name: tensor.contiguous() for name, tensor in networks["weights.safetensors"].state_dict().items()}
    header = {"mobilevit_sdk": msgspec.json.encode(tiny_model()[1]).decode()}
    return dict(zip(KINDS, (safetensors.torch.save(own, header), zipped.getvalue(), legacy.getvalue()), strict=True))


@pytest.fixture(scope="module")
def specs(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """The spec of each file; that there is one says that only damage can be the reason for a refusal."""
    folder = tmp_path_factory.mktemp("whole")
    for kind, content in files.items():
        (folder / kind).write_bytes(content)
    return {kind: load_checkpoint(folder / kind).spec for kind in files}


def spec_of_header(content: bytes) -> Any:
    """Read by other means than the SDK's."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["mobilevit_sdk"])


def places(content: bytes, held: bytes) -> list[int]:
    found, at = [], content.find(held)
    while at >= 0:
        found.append(at)
        at = content.find(held, at + 1)
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(
    share=st.floats(0, 1, exclude_max=True),
    near=st.sampled_from(["anywhere", "the start", "the end"]),
    damage=st.binary(min_size=1, max_size=1) | st.just(bytes(64)),
)
def test_a_damaged_file_is_refused_or_every_tensor_is_what_stands_at_its_place(
    tmp_path: Path,
    networks: dict[str, torch.nn.Module],
    files: dict[str, bytes],
    specs: dict[str, ModelSpec],
    kind: str,
    share: float,
    near: str,
    damage: bytes,
) -> None:
    """No format that we read has a checksum that its writers rely on: of a damaged weight, nothing else may change."""
    whole = files[kind]
    span = len(whole) if near == "anywhere" else min(20_000, len(whole))
    start = int(share * span) + (len(whole) - span if near == "the end" else 0)
    damaged = (whole[:start] + damage + whole[start + len(damage) :])[: len(whole)]
    path = tmp_path / kind
    path.write_bytes(damaged)
    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError:
        return
    if kind == "weights.safetensors":
        assert json.loads(msgspec.json.encode(checkpoint.spec)) == spec_of_header(damaged)
    else:
        assert checkpoint.spec == specs[kind]
    loaded = checkpoint.model.state_dict()
    for name, tensor in networks[kind].state_dict().items():
        before, after = tensor.numpy().tobytes(), loaded[name].numpy().tobytes()
        if after != before:
            assert after in [damaged[at : at + len(before)] for at in places(whole, before)], name


@pytest.mark.parametrize("kind", ["weights.safetensors", "weights.pth", "legacy.pth"])
@given(data=st.data())
def test_truncated_file_is_refused_wherever_it_ends(
    tmp_path: Path, files: dict[str, bytes], kind: str, data: st.DataObject
) -> None:
    path = tmp_path / kind
    content = files[kind]
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    refused(path)


@given(data=st.data())
def test_truncated_checkpoint_names_the_missing_bytes(
    tmp_path: Path, files: dict[str, bytes], data: st.DataObject
) -> None:
    content = files["weights.safetensors"]
    header_end = 8 + int.from_bytes(content[:8], "little")
    end = data.draw(st.integers(header_end, len(content) - 1))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content[:end])
    assert f"truncated, {len(content) - end:,} of {len(content):,} bytes are missing" in refused(path)


@given(
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x02\0\0\0\0\0\0\0{", b"\xff" * 8 + b"{"]),
    rest=st.binary(max_size=400),
    suffix=st.sampled_from([".safetensors", ".pth", ".bin"]),
)
def test_random_bytes_are_refused(tmp_path: Path, start: bytes, rest: bytes, suffix: str) -> None:
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(start + rest)
    refused(path)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("empty.pth", b"", "is empty; copy or download it again; expected a .safetensors file"),
        ("page.safetensors", b"\n<!DOCTYPE html><html>", "is a web page or XML"),
        (
            "pointer.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "is a Git LFS pointer; `git lfs pull`",
        ),
        ("notes.bin", b"hello, world; what is this", "is something that starts with b'hello, w'"),
        ("labels.pth", b'{"cat": 1, "dog": 2}', "is JSON"),
        ("huge.safetensors", struct.pack("<Q", 2**60) + b"{}", "it claims a header of 1,152,921,504,606,846,976 bytes"),
        ("none.safetensors", struct.pack("<Q", 2) + b"{}", "it holds no tensors"),
        (
            "inf.safetensors",
            struct.pack("<Q", 33) + b'{"w":{"data_offsets":[0,1e999]}} ',
            "not a complete safetensors file",
        ),
    ],
)
def test_foreign_file_is_called_what_it_is(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert complaint in refused(path)


def test_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}).encode()
    path = tmp_path / "claim.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"1234")
    assert "truncated, 3,999,999,999,999,996 of" in refused(path)
    path = tmp_path / "claim.pth"
    torch.save({"head.weight": torch.ones(1, 320).expand(10**13, 320), "head.bias": torch.ones(1)}, path)
    assert refused(path) == "holds no plain tensors in head.weight; save the state_dict() alone"


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "gone.pth") == "does not exist"
    assert refused(tmp_path) == "is a folder; name the checkpoint file in it"
