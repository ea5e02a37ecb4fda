"""Google's .npz files: the arrays of a ViT under timm's names, and nothing of a file is executed."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.export import export_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.npz_file import read_npz
from mobilevit_sdk.checkpoints.tensor_file import read_tensors
from mobilevit_sdk.errors import CheckpointError, RequestError

DIM, HEADS, DEPTH = 64, 1, 12


def noise(*shape: int, seed: int) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32) * 0.2


def google(*, big_vision: bool = False) -> tuple[dict[str, np.ndarray], dict[str, Tensor]]:
    """Arrays of a small ViT as JAX holds them, and by hand what they are in timm."""
    attention, norm2, mlp = (0, 1, 0) if big_vision else (1, 2, 3)
    arrays: dict[str, np.ndarray] = {}
    tensors: dict[str, Tensor] = {}

    def add(theirs: str, ours: str, array: np.ndarray, value: np.ndarray) -> None:
        arrays[theirs], tensors[ours] = array, torch.from_numpy(np.ascontiguousarray(value))

    seeds = iter(range(10_000))
    patch = noise(16, 16, 3, DIM, seed=next(seeds))
    add("embedding/kernel", "patch_embed.proj.weight", patch, patch.transpose(3, 2, 0, 1))
    for theirs, ours, shape in (
        ("embedding/bias", "patch_embed.proj.bias", (DIM,)),
        ("cls", "cls_token", (1, 1, DIM)),
        ("pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding", "pos_embed", (1, 5, DIM)),
        ("Transformer/encoder_norm/scale", "norm.weight", (DIM,)),
        ("Transformer/encoder_norm/bias", "norm.bias", (DIM,)),
        ("head/bias", "head.bias", (10,)),
    ):
        array = noise(*shape, seed=next(seeds))
        add(theirs, ours, array, array)
    head = noise(DIM, 10, seed=next(seeds))
    add("head/kernel", "head.weight", head, head.T)
    for i in range(DEPTH):
        theirs, ours = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        for number, name in ((0, "norm1"), (norm2, "norm2")):
            for leaf, leaf_of_ours in (("scale", "weight"), ("bias", "bias")):
                array = noise(DIM, seed=next(seeds))
                add(f"{theirs}/LayerNorm_{number}/{leaf}", f"{ours}.{name}.{leaf_of_ours}", array, array)
        kernels, biases = [], []
        for part in ("query", "key", "value"):
            kernels.append(noise(DIM, HEADS, 64, seed=next(seeds)))
            biases.append(noise(HEADS, 64, seed=next(seeds)))
            arrays[f"{theirs}/MultiHeadDotProductAttention_{attention}/{part}/kernel"] = kernels[-1]
            arrays[f"{theirs}/MultiHeadDotProductAttention_{attention}/{part}/bias"] = biases[-1]
        rows = [kernel[:, head, d] for kernel in kernels for head in range(HEADS) for d in range(64)]
        tensors[f"{ours}.attn.qkv.weight"] = torch.from_numpy(np.stack(rows))
        tensors[f"{ours}.attn.qkv.bias"] = torch.from_numpy(np.concatenate([bias.ravel() for bias in biases]))
        out = noise(HEADS, 64, DIM, seed=next(seeds))
        prefix = f"{theirs}/MultiHeadDotProductAttention_{attention}/out"
        add(f"{prefix}/kernel", f"{ours}.attn.proj.weight", out, out.reshape(HEADS * 64, DIM).T)
        bias = noise(DIM, seed=next(seeds))
        add(f"{prefix}/bias", f"{ours}.attn.proj.bias", bias, bias)
        for number, (inputs, outputs) in enumerate(((DIM, 4 * DIM), (4 * DIM, DIM))):
            kernel, bias = noise(inputs, outputs, seed=next(seeds)), noise(outputs, seed=next(seeds))
            prefix = f"{theirs}/MlpBlock_{mlp}/Dense_{number}"
            add(f"{prefix}/kernel", f"{ours}.mlp.fc{number + 1}.weight", kernel, kernel.T)
            add(f"{prefix}/bias", f"{ours}.mlp.fc{number + 1}.bias", bias, bias)
    return arrays, tensors


@pytest.mark.parametrize("prefix", ["", "opt/target/", "params/"])
def test_arrays_get_timm_s_names_and_axes(tmp_path: Path, prefix: str) -> None:
    arrays, expected = google(big_vision=prefix == "params/")
    np.savez(tmp_path / "vit.npz", **{prefix + name: array for name, array in arrays.items()})
    found, _ = read_npz(tmp_path / "vit.npz", "vit.npz")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_blocks_that_are_stacked_are_taken_one_by_one(tmp_path: Path) -> None:
    arrays, expected = google(big_vision=True)
    blocks = sorted(
        {name.split("/")[1] for name in arrays if "/encoderblock_" in name}, key=lambda name: int(name[13:])
    )
    inside = [name.split("/", 2)[2] for name in arrays if f"/{blocks[0]}/" in name]
    stacked = {name: array for name, array in arrays.items() if "/encoderblock_" not in name}
    for name in inside:
        stacked[f"Transformer/encoderblock/{name}"] = np.stack(
            [arrays[f"Transformer/{each}/{name}"] for each in blocks]
        )
    np.savez(tmp_path / "vit.npz", **{f"params/{name}": array for name, array in stacked.items()})
    found, _ = read_npz(tmp_path / "vit.npz", "vit.npz")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_single_number_in_place_of_stacked_blocks_is_refused(tmp_path: Path) -> None:
    arrays, _ = google(big_vision=True)
    np.savez(tmp_path / "vit.npz", **arrays, **{"Transformer/encoderblock/LayerNorm_0/scale": np.float32(1)})
    with pytest.raises(CheckpointError, match="of another shape"):
        load_checkpoint(tmp_path / "vit.npz")


def test_the_authors_own_file_loads_and_says_what_it_was_trained_with(tmp_path: Path) -> None:
    arrays, tensors = google()
    np.savez(tmp_path / "vit.npz", **arrays)
    checkpoint = load_checkpoint(tmp_path / "vit.npz")
    assert (checkpoint.layout, checkpoint.spec.family, checkpoint.spec.num_classes) == ("timm", "vit", 10)
    assert checkpoint.spec.config["image_size"] == [32, 32]
    assert any("GELU" in note for note in checkpoint.notes)
    assert torch.equal(checkpoint.model.blocks[3].attention.qkv.weight, tensors["blocks.3.attn.qkv.weight"])


class Planted:
    """Runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_an_array_of_objects_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    planted = np.array([Planted(tmp_path / "ran")], dtype=object)
    np.savez(tmp_path / "bad.npz", cls=planted, allow_pickle=True)
    with pytest.raises(CheckpointError, match=r"bad\.npz is no complete \.npz file of numbers"):
        read_tensors(tmp_path / "bad.npz")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_unpacks_to_much_more_is_refused_before_it_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "zeros.npz", cls=np.zeros((1000, 1000), np.float32))
    with pytest.raises(CheckpointError, match="claims 4,000,128 bytes of arrays"):
        read_tensors(tmp_path / "zeros.npz")


def test_text_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "text.npz", cls=np.array(["a", "b"]))
    with pytest.raises(CheckpointError, match="an array of type <U1"):
        read_tensors(tmp_path / "text.npz")


def in21k(*, width: int = 24) -> dict[str, np.ndarray]:
    """With a layer of so many values before the head, as the files of ImageNet-21k have it."""
    arrays, _ = google()
    layer = {"pre_logits/kernel": noise(DIM, width, seed=1), "pre_logits/bias": noise(width, seed=2)}
    return arrays | layer | {"head/kernel": noise(width, 10, seed=3)}


def as_written(arrays: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """What `vit_jax/models_vit.py` computes, in float64 and with the exact GELU: [H, W, 3] -> [classes]."""

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ arrays[f"{name}/kernel"].astype(np.float64) + arrays[f"{name}/bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * arrays[f"{name}/scale"] + arrays[f"{name}/bias"]

    patches = image.reshape(2, 16, 2, 16, 3).transpose(0, 2, 1, 3, 4).reshape(4, -1)
    embedded = patches @ arrays["embedding/kernel"].astype(np.float64).reshape(-1, DIM) + arrays["embedding/bias"]
    x = np.concatenate([arrays["cls"][0], embedded]) + arrays["Transformer/posembed_input/pos_embedding"][0]
    for i in range(DEPTH):
        block = f"Transformer/encoderblock_{i}"
        attention, y = f"{block}/MultiHeadDotProductAttention_1", norm(x, f"{block}/LayerNorm_0")
        query, key, value = (
            np.einsum("nd,dhk->hnk", y, arrays[f"{attention}/{part}/kernel"].astype(np.float64))
            + arrays[f"{attention}/{part}/bias"][:, None]
            for part in ("query", "key", "value")
        )
        weights = np.exp(query @ key.transpose(0, 2, 1) / 8)  # heads of 64
        weights /= weights.sum(-1, keepdims=True)
        out = arrays[f"{attention}/out/kernel"].astype(np.float64)
        x = x + np.einsum("hnk,hkd->nd", weights @ value, out) + arrays[f"{attention}/out/bias"]
        hidden = dense(norm(x, f"{block}/LayerNorm_2"), f"{block}/MlpBlock_3/Dense_0")
        hidden = hidden / 2 * (1 + torch.erf(torch.from_numpy(hidden / np.sqrt(2))).numpy())
        x = x + dense(hidden, f"{block}/MlpBlock_3/Dense_1")
    read = norm(x, "Transformer/encoder_norm")[0]
    if "pre_logits/kernel" in arrays:
        read = np.tanh(dense(read, "pre_logits"))
    return dense(read, "head")


@pytest.mark.parametrize("arrays", [google()[0], in21k()], ids=["fine-tuned", "with pre-logits"])
def test_a_file_answers_as_google_s_code_is_written(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "vit.npz", **arrays)
    checkpoint = load_checkpoint(tmp_path / "vit.npz")
    image = np.random.RandomState(0).uniform(-1, 1, (32, 32, 3))
    expected = as_written(arrays, image)
    given = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    with torch.inference_mode():
        found = checkpoint.model.double()(given)[0].numpy()
    assert np.abs(found - expected).max() <= 1e-11 * np.abs(expected).max()
    assert np.abs(expected).max() > 0.1


def test_a_layer_before_the_head_survives_our_own_file_and_is_not_exported(tmp_path: Path) -> None:
    np.savez(tmp_path / "in21k.npz", **in21k())
    checkpoint = load_checkpoint(tmp_path / "in21k.npz")
    assert checkpoint.spec.config["representation_dim"] == 24
    save_checkpoint(checkpoint.model, checkpoint.spec, tmp_path / "own.safetensors")
    again = load_checkpoint(tmp_path / "own.safetensors").model.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in checkpoint.model.state_dict().items())
    with pytest.raises(RequestError, match="has pre-logits, which no timm network has"):
        export_checkpoint(checkpoint, "timm", tmp_path / "timm.safetensors")


def test_a_head_of_zeros_is_loaded_and_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "in21k.npz", **in21k() | {"head/kernel": np.zeros((24, 10), np.float32)})
    assert any("its head is all zeros" in note for note in load_checkpoint(tmp_path / "in21k.npz").notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_logits/kernel": noise(DIM + 1, 24, seed=1)}, "of another shape"),
        ({"pre_logits/bias": None}, r"1 missing \(pre_logits.fc.bias\)"),
        ({"pre_logits/kernel": noise(24, seed=1)}, "of another shape"),
    ],
    ids=["of another width", "without a bias", "of one axis"],
)
def test_a_layer_before_the_head_that_does_not_fit_is_named(tmp_path: Path, change: dict, message: str) -> None:
    arrays = in21k() | change
    np.savez(tmp_path / "in21k.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "in21k.npz")


def test_a_header_that_claims_more_than_there_is_is_refused(tmp_path: Path) -> None:
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("cls.npy", array.getvalue() + b"\0" * 64)
    with pytest.raises(CheckpointError, match="is no complete"):
        read_tensors(tmp_path / "huge.npz")


@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_refused_or_read(tmp_path_factory: pytest.TempPathFactory, position, value, cut) -> None:
    """Never another exception. A zip archive has a checksum for each part."""
    path = tmp_path_factory.mktemp("npz") / "damaged.npz"
    np.savez(path, cls=noise(1, 1, 8, seed=0), **{"head/kernel": noise(8, 4, seed=1)})
    content = bytearray(path.read_bytes())
    at = int(position * len(content))
    content[at] = value
    path.write_bytes(content[:at] if cut else content)
    with suppress(CheckpointError):
        read_tensors(path)


@pytest.mark.parametrize(
    ("offset", "value"), [(6, 99), (8, 1), (10, 97)], ids=["a version to come", "encrypted", "an unknown compression"]
)
def test_an_archive_that_python_does_not_unpack_is_refused(offset, value, tmp_path):
    """Fields of the first entry in the archive's directory; zipfile has another exception for each."""
    path = tmp_path / "arrays.npz"
    np.savez(path, cls=noise(1, 1, 8, seed=0), **{"head/kernel": noise(8, 4, seed=1)})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + offset] = value
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_tensors(path)
