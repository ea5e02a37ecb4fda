"""The functions of `mobilevit_sdk` that stand beside the command line's verbs give what the commands print."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import tiny_model
from labeled_images import pictures, write_parquet

import mobilevit_sdk
from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import crop_image, open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Step
from mobilevit_sdk.quantization.search import Goal
from mobilevit_sdk.quantization.synthesis import SynthesisOptions
from mobilevit_sdk.training import EpochDone, Recipe, TrainingStarted, TrainingStep

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "a.parquet", pictures(40))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(*tiny_model(), path)
    return path


def _command(*arguments: object) -> dict:
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code in (0, 1), result.stderr
    return json.loads(result.stdout)


def test_train(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    options = ("--epochs", 2, "--batch-size", 8, "--device", "cpu", "--threads", 1, "--out", tmp_path / "command")
    document = _command("train", "--checkpoint", checkpoint, "--data", data, "--test-data", data, *options)
    steps: list[Step] = []
    found = mobilevit_sdk.train(
        str(data),
        data,
        tmp_path / "function",
        checkpoint=load_checkpoint(checkpoint),
        recipe=Recipe(epochs=2, batch_size=8),
        device="cpu",
        progress=steps.append,
    )
    assert (found.result.epoch, found.result.top1, found.result.top5) == tuple(
        document[key] for key in ("epochs", "top1", "top5")
    )
    assert (found.image_size, found.test_images, found.resumed) == (32, 40, False)
    mine, theirs = (load_checkpoint(path).model.state_dict() for path in (found.path, document["checkpoint"]))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    kinds = [type(step) for step in steps if type(step) is not Step]
    assert kinds == [TrainingStarted, *2 * [*5 * [TrainingStep], EpochDone]]
    with pytest.raises(RequestError, match="give one of them"):
        mobilevit_sdk.train(data, data, tmp_path, model="mobilevit_xxs", checkpoint=load_checkpoint(checkpoint))


def test_evaluate(data: Path, checkpoint: Path) -> None:
    document = _command("eval", checkpoint, "--data", data, "--limit", 13)
    steps: list[Step] = []
    found = mobilevit_sdk.evaluate(checkpoint, data=data, limit=13, progress=steps.append)
    assert (found.target, found.runtime) == (document["target"], document["runtime"])
    assert (found.accuracy.images, found.accuracy.top1, found.accuracy.top5) == tuple(
        document[key] for key in ("images", "top1", "top5")
    )
    assert (steps[-1].done, steps[-1].total) == (13, 13)


@pytest.mark.parametrize("search", [True, False])
def test_quantize(data: Path, checkpoint: Path, tmp_path: Path, search: bool) -> None:
    options = ("--calibration", data, "--size", 1, "--out", tmp_path / "command", *(["--search"] if search else []))
    document = _command("quantize", checkpoint, *options)
    found = mobilevit_sdk.quantize(
        load_checkpoint(checkpoint), calibration=data, goal=Goal(size=1), search=search, out=tmp_path / "function"
    )
    plain = json.loads(msgspec.json.encode(found))
    assert document == {"model": "mobilevit_xxs", "out": str(tmp_path / "command"), **plain}
    assert bool(found.points) == search
    names = {"recipe.json", "sensitivity.json", "sensitivity.png"}
    for name in names:
        assert (tmp_path / "function" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()
    assert {path.name for path in (tmp_path / "function").iterdir()} == names
    with pytest.raises(RequestError, match="'fp16' is not an integer precision"):
        mobilevit_sdk.quantize(load_checkpoint(checkpoint), precision="fp16")


def test_synthesize(checkpoint: Path, tmp_path: Path) -> None:
    options = ("--images", 8, "--steps", 3, "--threads", 1, "--out", tmp_path / "command.parquet")
    document = _command("synthesize", checkpoint, *options)
    loaded, path = load_checkpoint(checkpoint), tmp_path / "function.parquet"
    found = mobilevit_sdk.synthesize(loaded, path, SynthesisOptions(images=8, steps=3))
    assert (found.model, found.options.images) == (document["model"], document["images"])
    mine, theirs = (open_dataset(each, labeled=True) for each in (path, Path(document["path"])))
    assert mine.labels == theirs.labels
    for row in range(8):
        pixels = [crop_image(each.image(row), loaded.spec.preprocessing) for each in (mine, theirs)]
        assert np.array_equal(*pixels)
