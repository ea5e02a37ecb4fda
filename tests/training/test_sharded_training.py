"""Trainings on images that are not held in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from killed_training import make_trainer
from labeled_images import pictures, write_parquet

from mobilevit_sdk.cli import main
from mobilevit_sdk.progress import Step
from mobilevit_sdk.training import TrainingStep

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def shards(tmp_path: Path) -> str:
    images = pictures(45)
    for number, start in enumerate(range(0, 45, 11)):
        write_parquet(tmp_path / f"train-{number}.parquet", images[start : start + 11])
    return f"{tmp_path}/train-*.parquet"


def test_a_training_stopped_within_an_epoch_ends_bit_for_bit_as_one_that_was_not(shards: str, tmp_path: Path) -> None:
    whole = make_trainer(shards, tmp_path / "whole")
    assert whole.feed.dataset.storage is not None
    whole.run()

    def stop_in_the_second_epoch(step: Step) -> None:
        if isinstance(step, TrainingStep) and step.epoch == 2:
            stopped.stop()

    stopped = make_trainer(shards, tmp_path / "stopped", progress=stop_in_the_second_epoch)
    assert stopped.run() is None
    again = make_trainer(shards, tmp_path / "stopped")
    assert again.resumed
    assert again.next_step > 0
    again.run()
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "stopped")]
    assert all(torch.equal(value, states[1]["average"][name]) for name, value in states[0]["average"].items())


def test_the_command_takes_a_pattern(shards: str, tmp_path: Path) -> None:
    options = ["--image-size", "32", "--epochs", "1", "--batch-size", "16", "--threads", "1"]
    ran = CliRunner().invoke(
        main, ["train", "--data", shards, "--test-share", "0.2", "--out", str(tmp_path / "out"), "--json", *options]
    )
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["test_images"] == 10
    metrics = json.loads((tmp_path / "out" / "metrics.jsonl").read_text())
    assert metrics["epoch"] == 1
