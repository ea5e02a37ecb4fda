"""`mobilevit inspect` of checkpoints: all that is known of a file, and all that a load would not take as it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from golden.reference import ALL, attention_bias_idxs, digests, release_weights, save_as_published
from helpers import tiny_model
from labeled_images import pictures, write_folder

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.export import export_checkpoint
from mobilevit_sdk.checkpoints.inspection import inspect_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.files import hash_and_size

KEYS = {
    "kind",
    "path",
    "model",
    "family",
    "layout",
    "num_classes",
    "features",
    "parameters",
    "options",
    "bytes",
    "sha256",
    "dtypes",
    "image_size",
    "preprocessing",
    "preprocessing_source",
    "labels",
    "license",
    "notes",
}


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *(str(argument) for argument in arguments)])


def document(path: Path) -> dict[str, Any]:
    result = inspect(path, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(("family", "release"), ALL)
def test_every_release_is_described(tmp_path: Path, family: str, release: str) -> None:
    path = save_as_published(tmp_path, release, release_weights(family, release))
    found = document(path)
    variant = found["model"]
    assert found.keys() == KEYS
    assert (found["kind"], found["family"], found["layout"]) == ("checkpoint", family, release)
    assert found["parameters"] == digests("timm")[variant]["parameters"]
    assert (found["sha256"], found["bytes"]) == hash_and_size(path)
    assert found["num_classes"] == 1000
    assert found["options"] == {}
    assert found["dtypes"].keys() == {"float32"}
    assert found["image_size"] == found["preprocessing"]["image_size"]
    assert (found["labels"], found["notes"]) == (None, [])
    text = inspect(path).stdout
    assert f"{variant} ({family})" in text
    assert f"{found['parameters']:,}" in text


def test_our_own_checkpoint_shows_its_labels(tmp_path: Path) -> None:
    model, spec = tiny_model()
    save_checkpoint(model, spec, tmp_path / "tiny.safetensors", matrix_dtype=torch.float16)
    found = document(tmp_path / "tiny.safetensors")
    assert found["layout"] == "own"
    assert found["labels"] == [f"class {i}" for i in range(5)]
    assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    matrices = sum(tensor.ndim > 1 for tensor in model.state_dict().values())
    assert found["dtypes"]["float16"] == matrices
    assert found["notes"] == [f"{matrices} float16 tensors became float32"]


@pytest.mark.parametrize("lacking", ["classifier.", ("classifier.", "mobilevit.conv_1x1_exp.")])
def test_backbone_is_described_rather_than_refused(tmp_path: Path, lacking: str | tuple[str, ...]) -> None:
    whole = release_weights("mobilevit", "transformers")
    tensors = {name: tensor for name, tensor in whole.items() if not name.startswith(lacking)}
    found = document(save_as_published(tmp_path, "transformers", tensors))
    assert (found["model"], found["layout"], found["num_classes"]) == ("mobilevit_xxs", "transformers", None)
    assert found["notes"] == ["a backbone: it has no classifier (classifier.weight)"]
    counted = [tensor for name, tensor in tensors.items() if "running_" not in name and "num_batches" not in name]
    assert found["parameters"] == sum(tensor.numel() for tensor in counted)
    assert "none: a backbone" in inspect(tmp_path / "weights.safetensors").stdout


def test_backbone_gets_a_fresh_head_where_a_class_count_is_given(tmp_path: Path) -> None:
    """The weights of the file, and a head that is always the same and said to be untrained."""
    whole = release_weights("mobilevit", "transformers")
    tensors = {n: t for n, t in whole.items() if not n.startswith(("classifier.", "mobilevit.conv_1x1_exp."))}
    path = save_as_published(tmp_path, "transformers", tensors)
    checkpoint = load_checkpoint(path, num_classes=7)
    (note,) = checkpoint.notes
    assert "final_conv.norm.bias and 4 more are untrained: the file is a backbone without a classifier" in note
    assert checkpoint.spec.num_classes == 7
    assert checkpoint.model(torch.rand(1, 3, 64, 64)).shape == (1, 7)
    stem = whole["mobilevit.conv_stem.convolution.weight"]
    assert torch.equal(checkpoint.model.get_parameter("stem.conv.weight"), stem)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    again = load_checkpoint(path, num_classes=7)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(again.model.get_parameter("head.weight"), checkpoint.model.get_parameter("head.weight"))
    assert checkpoint.model.get_parameter("head.weight").std() > 0.01


def test_all_that_is_not_taken_as_it_stands_is_said(tmp_path: Path) -> None:
    """Averaged weights out of a trainer's checkpoint, in half precision, with indices, without step counts."""
    tensors = {n: t for n, t in release_weights("efficientvit", "cream").items() if not n.endswith("tracked")}
    indices = attention_bias_idxs(tensors)
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    path = tmp_path / "checkpoint_300.pth"
    torch.save({"model": tensors, "model_ema": {**halves, **indices}, "epoch": 300}, path)
    found = document(path)
    assert found["notes"] == [
        "took model_ema, averaged weights (EMA), and left model, epoch",
        "BatchNorm's step counts (num_batches_tracked) are not in the file and start at 0",
        f"{len(indices)} tensors agree with what the network derives and are not kept: "
        f"{', '.join(list(indices)[:3])} and {len(indices) - 3} more",
        f"{len(halves)} float16 tensors became float32",
    ]
    assert found["dtypes"] == {"float16": len(halves), "int64": len(indices)}
    assert all(note in " ".join(inspect(path).stdout.split()) for note in found["notes"])


def test_windows_of_no_variant_are_said(tmp_path: Path) -> None:
    path = save_as_published(tmp_path, "timm", release_weights("tiny_vit", "timm"))
    model, spec = (large := load_checkpoint(path, image_size=256, windows="scale")).model, large.spec
    became = "windows of 7, 14, 7 positions became 8, 16, 8 at 256x256 pixels, and position biases were interpolated"
    assert large.notes == (became,)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "windows.safetensors")  # our names, without our header
    found = inspect_checkpoint(tmp_path / "windows.safetensors")
    assert (found.layout, found.options) == ("own", {"window_sizes": (8, 16, 8)})
    assert found.notes == ("window_sizes is 8, 16, 8, in tiny_vit_5m_224 7, 14, 7",)
    assert spec.config["window_sizes"] == [8, 16, 8]


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    tensors = release_weights("mobilevit", "timm")
    tensors["stem.bn.bias"] = torch.full_like(tensors["stem.bn.bias"], float("nan"))
    path = save_as_published(tmp_path, "timm", tensors)
    result = inspect(path, "--json")
    assert result.exit_code == 2
    assert "holds NaN or infinity in stem.bn.bias" in json.loads(result.stdout)["error"]


@pytest.mark.parametrize("name", ["nowhere.pth", "nowhere.safetensors", "nowhere"])
def test_a_missing_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    result = inspect(tmp_path / name)
    assert result.exit_code == 2
    assert f"{tmp_path / name} does not exist" in result.stderr


@pytest.mark.parametrize("command", [["inspect"], ["eval", "--data", "."], ["train", "--checkpoint"]])
def test_the_name_of_a_model_is_not_called_a_missing_file(command: list[str], tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", pictures(5))
    more = {"train": ["--data", str(data), "--test-data", str(data), "--out", str(tmp_path / "out")]}
    arguments = [str(data) if each == "." else each for each in command]
    result = CliRunner().invoke(main, [*arguments, "mobilevit_xs", *more.get(command[0], [])])
    assert result.exit_code == 2
    assert "mobilevit_xs is a model's name, not a checkpoint" in " ".join(result.stderr.split())


def test_features_have_no_classes_wherever_they_are_described(tmp_path: Path) -> None:
    loaded = load_checkpoint(features="pooled")
    save_checkpoint(loaded.model, loaded.spec, tmp_path / "features.safetensors")
    found = inspect_checkpoint(tmp_path / "features.safetensors")
    assert (found.num_classes, found.features) == (None, "pooled")
    written = export_checkpoint(loaded, "timm", tmp_path / "timm.safetensors")
    assert "num_classes=0, " in (written.load_with or "")
