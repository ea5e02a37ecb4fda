"""A training keeps its best epoch, goes on with more epochs, and holds out a share of one folder."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import torch
from click.testing import CliRunner, Result
from helpers import tiny_model
from labeled_images import pictures, write_folder

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import open_dataset, split_dataset
from mobilevit_sdk.tasks.accuracy import Accuracy
from mobilevit_sdk.training import Recipe, Trainer
from mobilevit_sdk.training.metrics import EpochResult, best_epoch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data"), pictures(30))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, spec = tiny_model()
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(model, spec, path)
    return path


def _run(data: Path, checkpoint: Path, out: Path, *options: str) -> Result:
    arguments = ["train", "--data", data, "--checkpoint", checkpoint, "--out", out, "--device", "cpu", "--threads", "1"]
    return CliRunner().invoke(main, [*map(str, arguments), "--batch-size", "8", *options])


def test_share_is_held_out_and_measured_on(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = _run(data, checkpoint, tmp_path, "--test-share", "0.2", "--epochs", "1", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["test_images"] == 5  # round(0.2 * 6) of each class
    assert "25 images" in result.stderr
    kept, held_out = split_dataset(open_dataset(data, labeled=True), 0.2)
    assert not set(kept.names) & set(held_out.names)


@pytest.mark.parametrize("options", [(), ("--test-share", "0.2", "--test-data", ".")])
def test_one_way_to_measure_is_asked_for(
    data: Path, checkpoint: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    result = _run(data, checkpoint, tmp_path / "out", *options)
    assert result.exit_code == 2
    assert "--test-data, or on a --test-share of --data: give one" in " ".join(result.stderr.split())


def test_best_epoch_is_kept_beside_the_last(
    data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter([0.2, 0.6, 0.6, 0.4])
    monkeypatch.setattr(Trainer, "_evaluate", lambda *_: Accuracy(30, next(accuracies), 1.0))
    result = _run(data, checkpoint, tmp_path, "--test-share", "0.2", "--epochs", "4", "--json")
    document = json.loads(result.stdout)
    assert (document["top1"], document["best_epoch"], document["best_top1"]) == (0.4, 2, 0.6)
    last, best = (load_checkpoint(document[name]) for name in ("checkpoint", "best_checkpoint"))
    assert (last.spec.provenance["epochs_done"], best.spec.provenance["epochs_done"]) == (4, 2)
    assert best.spec.provenance["top1"] == 0.6
    assert any(
        not torch.equal(a, b)
        for a, b in zip(last.model.state_dict().values(), best.model.state_dict().values(), strict=True)
    )


def test_best_epoch_of_a_training_for_integers_is_the_best_in_integers() -> None:
    row = EpochResult(1, 0.1, 0.1, 1, 1, 0.9, 1.0, quantized_top1=0.5)
    other = EpochResult(2, 0.1, 0.1, 1, 1, 0.8, 1.0, quantized_top1=0.7)
    assert best_epoch([row, other]) == other


def test_more_epochs_go_on_by_the_schedule_of_all_of_them(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    options = ("--test-share", "0.2", "--learning-rate", "0.001", "--sizes", "32,40")
    assert _run(data, checkpoint, tmp_path, *options, "--epochs", "2").exit_code == 0
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    longer = _run(data, checkpoint, tmp_path, *options, "--epochs", "4", "--json")
    assert longer.exit_code == 0, longer.stderr
    recipe = Recipe(epochs=4, learning_rate=0.001)
    said = " ".join(longer.stderr.split())
    assert "going on after epoch 2, for 4 epochs instead of 2: the learning rate follows the schedule of all 4" in said
    assert f"from 1.0e-05 to {recipe.learning_rate_at(0.5):.1e} here" in said
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[1] == first
    assert rows[1]["learning_rate"] < rows[2]["learning_rate"] <= recipe.learning_rate_at(0.5)
    assert msgspec.json.decode((tmp_path / "recipe.json").read_bytes(), type=Recipe).epochs == 4

    again = _run(data, checkpoint, tmp_path, *options, "--epochs", "4", "--json")
    assert "it is complete" in again.stderr
    fewer = _run(data, checkpoint, tmp_path, *options, "--epochs", "3")
    assert fewer.exit_code == 2
    assert "its epochs is 4, not 3" in " ".join(fewer.stderr.split())
    other = _run(data, checkpoint, tmp_path, *options, "--epochs", "9", "--learning-rate", "0.01")
    assert other.exit_code == 2
    assert "its learning_rate is 0.001, not 0.01" in " ".join(other.stderr.split())
