"""Files that are no weights of PyTorch are called what they look like, with what to do about it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from golden.reference import Weights, release_weights
from helpers import refused

from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.tensor_file import read_tensors
from mobilevit_sdk.errors import CheckpointError


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return buffer.getvalue()


def arrays(save: Callable[..., Any], *values: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *values)
    return buffer.getvalue()


SCRIPT = arrays(lambda buffer: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer))
KINDS = {
    "model.keras": (zipped("metadata.json", "config.json", "model.weights.h5"), "a .keras file"),
    "model.h5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5, as Keras writes it"),
    "weights.npz": (arrays(np.savez, np.ones(3)), "an archive of NumPy's arrays (.npz)"),
    "weights.npy": (arrays(np.save, np.ones(3)), "an array of NumPy (.npy)"),
    "model.onnx": (b"\x08\x07\x12\x07pytorch\x1a\x05" + bytes(60), "an ONNX file, which a checkpoint was converted to"),
    "model.tflite": (b"\x1c\0\0\0TFL3" + bytes(60), "a .tflite file, which a checkpoint was converted to"),
    "model.pte": (b"\x30\0\0\0ET12" + bytes(60), "a .pte file of ExecuTorch, which a checkpoint was converted to"),
    "images.parquet": (b"PAR1\x15\x04" + bytes(60), "a Parquet file, perhaps of images; give the checkpoint"),
    "model.gguf": (b"GGUF\x03\0\0\0" + bytes(60), "GGUF"),
    "flax_model.msgpack": (b"\x82\xa5layer\x81\xa6kernel" + bytes(60), "a msgpack file, as Flax writes it"),
    "page.pth": (b"\n<!DOCTYPE html><html>", "a web page or XML, perhaps the error page of a download; download"),
    "pointer.bin": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "`git lfs pull` fetches the file"),
    "script.pt": (SCRIPT, 'torch.save(torch.jit.load(FILE).state_dict(), "weights.pth")'),
    "photos.pth": (zipped("cat.png"), "a zip archive that torch.save did not write"),
    "upload.zip": (zipped("readme.txt", "best.pth"), "a zip archive with best.pth in it; unpack it"),
    "release.tar.gz": (b"\x1f\x8b\x08" + bytes(60), "a gzip archive; unpack it"),
    "config.pth": (b'{"hidden": 3}', "JSON; give the weights that it stands beside"),
    "empty.pth": (b"", "empty; copy or download it again"),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [*((kind, kind) for kind in KINDS), *((kind, "weights.pth") for kind in KINDS if kind != "flax_model.msgpack")],
)
def test_foreign_files_are_named_whatever_their_suffix(tmp_path: Path, kind: str, name: str) -> None:
    """By their suffix alone only where the format has no mark, as msgpack has none."""
    content, looks = KINDS[kind]
    path = tmp_path / name
    path.write_bytes(content)
    message = refused(path)
    assert message.startswith("is ")
    assert looks in message
    assert ";" in message


def test_foreign_folders_are_named(tmp_path: Path) -> None:
    package = tmp_path / "model.mlpackage"
    package.mkdir()
    assert refused(package) == "is a Core ML package, which a checkpoint was converted to; give that checkpoint"
    folder = tmp_path / "hub"
    folder.mkdir()
    assert refused(folder) == "is a folder; name the checkpoint file in it"
    (folder / "model.safetensors").touch()
    assert refused(folder) == f"is a folder; name the checkpoint file in it, such as {folder}/model.safetensors"


def sharded(folder: Path, tensors: Weights, suffix: str = ".safetensors", count: int = 3) -> Path:
    """The tensors in several files, and the index that joins them, as transformers writes both."""
    names, shards = list(tensors), {}
    for i in range(count):
        shards[f"model-{i}-of-{count}{suffix}"] = {name: tensors[name] for name in names[i::count]}
    for shard, held in shards.items():
        if suffix == ".safetensors":
            safetensors.torch.save_file(held, folder / shard)
        else:
            torch.save(held, folder / shard)
    index = folder / {".safetensors": "model.safetensors.index.json", ".bin": "pytorch_model.bin.index.json"}[suffix]
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_an_index_joins_its_shards(tmp_path: Path, suffix: str) -> None:
    tensors = release_weights("mobilevit", "transformers")
    index = sharded(tmp_path, tensors, suffix)
    checkpoint = load_checkpoint(index)
    assert (checkpoint.spec.model, checkpoint.layout) == ("mobilevit_xxs", "transformers")
    assert f"joined 3 files that {index.name} names" in checkpoint.notes
    assert torch.equal(checkpoint.model.get_parameter("head.weight"), tensors["classifier.weight"])
    before = checkpoint.sha256
    assert before == load_checkpoint(index).sha256
    tensors["classifier.weight"] = tensors["classifier.weight"] + 1
    assert load_checkpoint(sharded(tmp_path, tensors, suffix)).sha256 != before
    read = read_tensors(index)
    sharded(tmp_path, tensors | {"classifier.bias": torch.ones(3)}, suffix)
    with pytest.raises(CheckpointError, match="changed after it was opened"):
        read.version.check()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"a": "../outside.safetensors"}, "names files outside of its folder: ../outside.safetensors"),
        ({"a": "/etc/passwd"}, "names files outside of its folder: /etc/passwd"),
        ({"a": "..\\outside.safetensors"}, "names files outside of its folder"),
        ({"a": "C:outside.safetensors"}, "names files outside of its folder"),
        ({"a": ".."}, "names files outside of its folder: .."),
        ({"a": ""}, "names files outside of its folder"),
        ({"a": "gone.safetensors"}, "of which 1 are not beside it: gone.safetensors"),
        ({"a": "model.safetensors.index.json"}, "is JSON"),
        ({"more": "model-0-of-2.safetensors"}, "does not hold what model.safetensors.index.json says: more"),
        ({"a": "model-1-of-2.safetensors"}, "does not hold what model.safetensors.index.json says: a"),
    ],
)
def test_an_index_stays_in_its_folder_and_means_what_it_says(
    tmp_path: Path, change: dict[str, str], complaint: str
) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "outside.safetensors")
    index = sharded(folder, {"a": torch.ones(1), "b": torch.ones(1)}, count=2)
    content = json.loads(index.read_text())
    content["weight_map"] |= change
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as caught:
        read_tensors(index)
    assert complaint in str(caught.value)
