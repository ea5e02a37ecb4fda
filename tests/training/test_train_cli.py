"""`mobilevit train`: from scratch and fine-tuning, resumed, interrupted, and refused with a reason."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import msgspec
import pytest
import torch
from click.testing import CliRunner, Result
from helpers import tiny_model
from labeled_images import NAMES, pictures, write_folder, write_parquet

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.export import export_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.registry import model_spec, spec_at_size
from mobilevit_sdk.spec import Preprocessing
from mobilevit_sdk.training import Recipe, Trainer
from mobilevit_sdk.training.start import initial_checkpoint, input_size, network_for_training, spec_for_training

SMALL_VIT = ("--set", "dim=32", "--set", "num_heads=2", "--set", "depth=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(20))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, spec = tiny_model()
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(model, msgspec.structs.replace(spec, license="CC0-1.0"), path)
    return path


def _run(data: Path, out: Path, *options: str) -> Result:
    arguments = ["train", "--data", data, "--test-data", data, "--out", out, "--device", "cpu", "--threads", "1"]
    return CliRunner().invoke(main, [*map(str, arguments), *options])


def _tiny(checkpoint: Path, *options: str) -> tuple[str, ...]:
    return ("--checkpoint", str(checkpoint), "--epochs", "2", "--batch-size", "8", *options)


def test_training_reports_one_document_and_one_line_an_epoch(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = _run(data, tmp_path, *_tiny(checkpoint, "--json"))
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert document["checkpoint"] == str(tmp_path / "model.safetensors")
    assert {key: document[key] for key in ("model", "epochs", "top1", "top5", "resumed")} == {
        "model": "mobilevit_xxs",
        "epochs": 2,
        "top1": last["top1"],
        "top5": last["top5"],
        "resumed": False,
    }
    assert document["seconds"] > 0
    lines = re.findall(r"^epoch (\d)/2 +loss \S+ +top-1 +\S+% +top-5 +\S+% +\S+ images/s +lr \S+$", result.stderr, re.M)
    assert lines == ["1", "2"]
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert loaded.spec.labels == NAMES
    assert loaded.spec.provenance["recipe"]["batch_size"] == 8

    again = _run(data, tmp_path, *_tiny(checkpoint, "--json"))
    assert "holds this training, and it is complete" in again.stderr
    assert json.loads(again.stdout) | {"seconds": 0, "resumed": False} == document | {"seconds": 0}


def test_model_is_trained_from_scratch(data: Path, tmp_path: Path) -> None:
    result = _run(data, tmp_path, "--image-size", "32", "--epochs", "1", "--sizes", "32,40", "--batch-size", "4")
    assert result.exit_code == 0, result.stderr
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert (loaded.spec.model, loaded.spec.num_classes, loaded.spec.license) == ("mobilevit_xxs", 5, None)
    assert loaded.spec.preprocessing.image_size == (32, 32)
    assert re.search(r"model\.safetensors: top-1 \S+%, top-5 \S+% on 20 images", result.stdout)


def test_rectangles_are_trained_on_at_several_sizes_of_the_same_proportions(data: Path, tmp_path: Path) -> None:
    options = ("--image-size", "64x48", "--sizes", "48,64", "--epochs", "1", "--batch-size", "4")
    result = _run(data, tmp_path, *options, "--model", "vit_tiny_patch16_224", *SMALL_VIT)
    assert result.exit_code == 0, result.stderr
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert loaded.spec.preprocessing.image_size == (64, 48)
    assert loaded.spec.config["image_size"] == [64, 48]
    with torch.no_grad():
        assert loaded.model(torch.rand(1, 3, 64, 48)).shape == (1, 5)


@pytest.mark.parametrize(
    ("image_size", "side", "expected"),
    [
        ((256, 192), 176, (176, 128)),
        ((192, 256), 256, (192, 256)),
        ((224, 224), 100, (100, 100)),
        ((100, 75), 50, (50, 38)),
    ],
)
def test_smaller_inputs_keep_the_proportions_in_whole_patches(
    image_size: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    """A square is what was asked for; the last is of no whole patches itself, which only other networks take."""
    spec = model_spec("mobilevit_xxs" if image_size == (100, 75) else "vit_tiny_patch16_224")
    preprocessing = spec.preprocessing.at_size(*image_size)
    assert input_size(msgspec.structs.replace(spec, preprocessing=preprocessing), side) == expected


@pytest.mark.parametrize(("image_size", "resize_size"), [(32, 36), (40, 40), (48, 48)])
def test_small_images_are_not_cropped(data: Path, image_size: int, resize_size: int) -> None:
    """The pictures are 40 pixels wide; MobileViT resizes to 9/8 of its input."""
    spec = spec_for_training("mobilevit_xxs", None, open_dataset(data, labeled=True), image_size)
    assert spec.preprocessing == Preprocessing(image_size=(image_size, image_size), resize_size=resize_size)


def test_interrupt_saves_the_state_and_the_same_command_goes_on(
    data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step, steps = Trainer._train_step, 0

    def press_ctrl_c(*arguments: object) -> float:
        nonlocal steps
        steps += 1
        if steps == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_train_step", press_ctrl_c)
    handler = signal.getsignal(signal.SIGINT)
    stopped = _run(data, tmp_path / "stopped", *_tiny(checkpoint, "--json"))
    assert (stopped.exit_code, steps) == (130, 2)
    assert "the same command continues from it" in stopped.stderr
    assert json.loads(stopped.stdout)["exit_code"] == 130
    assert signal.getsignal(signal.SIGINT) is handler

    resumed = _run(data, tmp_path / "stopped", *_tiny(checkpoint, "--json"))
    assert "resuming in epoch 1, after 2 of its steps" in resumed.stderr
    whole = _run(data, tmp_path / "whole", *_tiny(checkpoint, "--json"))
    assert json.loads(resumed.stdout)["top1"] == json.loads(whole.stdout)["top1"]
    mine, theirs = (load_checkpoint(tmp_path / name / "model.safetensors").model for name in ("stopped", "whole"))
    assert all(torch.equal(a, b) for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_options_override_the_recipe_file(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_bytes(msgspec.json.encode(Recipe(epochs=50, seed=3, ema_decay=0.9, batch_size=8)))
    result = _run(
        data, tmp_path / "out", "--checkpoint", str(checkpoint), "--recipe", str(recipe), "--epochs", "1", "--seed", "4"
    )
    assert result.exit_code == 0, result.stderr
    written = msgspec.json.decode((tmp_path / "out" / "recipe.json").read_bytes(), type=Recipe)
    assert written == Recipe(epochs=1, seed=4, ema_decay=0.9, batch_size=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "mobilevit_xxx"], "unknown model 'mobilevit_xxx'; did you mean mobilevit_xxs"),
        (["--model", "mobilevit_xs", "--checkpoint", "a.pt"], "give one of them"),
        (["--epochs", "0"], "the recipe's epochs must lie between 1 and 1,000,000, not 0"),
        (["--learning-rate", "nan"], "the recipe's learning_rate must lie between"),
        (["--sizes", "32,16"], "sizes must lie between 32 and 4096 pixels, not 32, 16"),
        (["--sizes", "big"], "'big' is not a list of sizes in pixels"),
        (["--recipe", "none.json"], "cannot read the recipe none.json"),
        (["--test-data", "none"], "none does not exist"),
        (["--device", "cuda"], "finds no cuda device here; give auto or cpu as --device"),
    ],
)
def test_wrong_request_is_one_line_and_leaves_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = _run(data, tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_test_data_with_another_class_is_refused_by_name(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", pictures(5))
    (other / NAMES[3]).rename(other / "dog")
    result = _run(data, tmp_path / "out", *_tiny(checkpoint), "--test-data", str(other))
    assert result.exit_code == 2
    assert "other has a class 'dog' that mobilevit_xxs lacks" in result.stderr


def test_out_that_cannot_be_written_is_an_error(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = _run(data, tmp_path / "file" / "out", *_tiny(checkpoint))
    assert result.exit_code == 2
    assert "cannot write into" in result.stderr


def test_fine_tuning_keeps_the_weights_and_tells_where_they_came_from(data: Path, checkpoint: Path) -> None:
    initial = load_checkpoint(checkpoint)
    spec = spec_for_training("mobilevit_xxs", initial, open_dataset(data, labeled=True), None)
    network = network_for_training(spec, Recipe(), initial)
    for name, value in initial.model.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    came_from = {"source": "tiny.safetensors", "sha256": initial.sha256, "license": "CC0-1.0"}
    assert spec.provenance == {"initial_checkpoint": came_from}
    assert spec.license is None


def test_fine_tuning_for_other_classes_starts_with_a_new_head(checkpoint: Path, tmp_path: Path) -> None:
    initial = load_checkpoint(checkpoint)
    data = write_folder(tmp_path, [picture for picture in pictures(10) if picture[1] < 3])
    spec = spec_for_training("mobilevit_xxs", initial, open_dataset(data, labeled=True), None)
    network = network_for_training(spec, Recipe(), initial)
    assert spec.labels == NAMES[:3]
    for name, value in initial.model.state_dict().items():
        assert torch.equal(network.state_dict()[name], value) != name.startswith("head."), name
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_fine_tuning_starts_from_a_backbone_with_a_head_for_the_data(data: Path, tmp_path: Path) -> None:
    classifier = tmp_path / "classifier.pth"
    trained = random_checkpoint(spec_at_size(model_spec("mobilevitv2_050"), 32, 32), seed=0)
    export_checkpoint(trained, "transformers", classifier)
    backbone = tmp_path / "backbone.pth"
    weights = torch.load(classifier, weights_only=True)
    torch.save({name: value for name, value in weights.items() if not name.startswith("classifier")}, backbone)
    dataset = open_dataset(data, labeled=True)
    initial = initial_checkpoint(str(backbone), dataset)
    assert initial.spec.num_classes == len(NAMES)
    assert any("untrained" in note for note in initial.notes)
    network = network_for_training(spec_for_training("", initial, dataset, 32), Recipe(), initial)
    for name, value in trained.model.state_dict().items():
        assert name.startswith("head.") or torch.equal(network.state_dict()[name], value), name


def test_fine_tuning_on_the_same_classes_in_another_order_keeps_the_head(checkpoint: Path, tmp_path: Path) -> None:
    metadata = json.dumps({"info": {"features": {"label": {"names": NAMES[::-1]}}}}).encode()
    data = write_parquet(tmp_path / "a.parquet", pictures(5), metadata=metadata)
    spec = spec_for_training("mobilevit_xxs", load_checkpoint(checkpoint), open_dataset(data, labeled=True), None)
    assert spec.labels == NAMES


def test_fine_tuning_from_another_checkpoint_is_another_training(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    assert _run(data, tmp_path / "out", *_tiny(checkpoint)).exit_code == 0
    model, spec = tiny_model(seed=1)
    save_checkpoint(model, spec, tmp_path / "other.safetensors")
    result = _run(data, tmp_path / "out", *_tiny(tmp_path / "other.safetensors"))
    assert result.exit_code == 2
    assert "holds another training" in result.stderr


def test_recipe_sets_what_only_training_uses(checkpoint: Path) -> None:
    initial = load_checkpoint(checkpoint)
    network = network_for_training(initial.spec, Recipe(model={"dropout": 0.25, "stochastic_depth": 0.1}), initial)
    assert {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)} >= {0.25}
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(network.eval()(x), initial.model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"final_channels": 32}, "final_channels.*change what mobilevit_xxs computes"),
        ({"num_heads": 2}, "num_heads.*change what mobilevit_xxs computes"),
        ({"droput": 0.1}, "sets droput, which the config of mobilevit_xxs lacks"),
        ({"dropout": "much"}, "the config of mobilevit_xxs is not one of family mobilevit"),
    ],
)
def test_recipe_cannot_change_the_network(checkpoint: Path, options: dict, message: str) -> None:
    initial = load_checkpoint(checkpoint)
    with pytest.raises(RequestError, match=message):
        network_for_training(initial.spec, Recipe(model=options), initial)


def test_the_resize_that_is_asked_for_is_of_the_size_trained_at(checkpoint: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", pictures(10, size=72))  # larger than the input: their border is cropped away
    side = load_checkpoint(checkpoint).spec.preprocessing.image_size[0] + 16
    options = ("--image-size", str(side), "--resize", str(side + 8), "--epochs", "1")
    result = _run(data, tmp_path / "out", *_tiny(checkpoint), *options)
    assert result.exit_code == 0, result.stderr
    preprocessing = load_checkpoint(tmp_path / "out" / "model.safetensors").spec.preprocessing
    assert (preprocessing.image_size, preprocessing.resize_size) == ((side, side), side + 8)
    assert "has no effect" not in result.stderr


def test_a_resize_without_effect_is_said(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = _run(data, tmp_path / "out", *_tiny(checkpoint, "--epochs", "1", "--image-size", "48", "--resize", "56"))
    assert result.exit_code == 0, result.stderr
    assert "--resize has no effect" in result.stderr
    assert load_checkpoint(tmp_path / "out" / "model.safetensors").spec.preprocessing.resize_size == 48
