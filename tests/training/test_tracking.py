"""A training that a tracker hears of, read back from its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed_training import RECIPE, make_trainer
from labeled_images import pictures, write_parquet

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Step
from mobilevit_sdk.training import TrainingStep
from mobilevit_sdk.training.run import run_training
from mobilevit_sdk.training.tracking import check_tracker

pytestmark = pytest.mark.usefixtures("one_thread")


def test_tensorboard_reads_back_every_step_and_epoch_across_an_interruption(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the tracker's own package reads its files")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = write_parquet(tmp_path / "a.parquet", pictures(45))
    losses: dict[int, float] = {}

    def look(step: Step) -> None:
        if isinstance(step, TrainingStep):
            losses[step.done] = step.loss
            if len(losses) == 4:
                trainer.stop()

    trainer = make_trainer(data, tmp_path / "out", progress=look)
    with pytest.raises(KeyboardInterrupt):
        run_training(trainer, "training", track="tensorboard")
    trainer = make_trainer(data, tmp_path / "out", progress=look)
    run_training(trainer, "training", track="tensorboard")
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    told = {event.step: event.value for event in events.Scalars("loss")}
    assert sorted(told) == sorted(losses)
    assert told == pytest.approx(losses)
    accuracies = [(event.step, event.value) for event in events.Scalars("top1")]
    assert accuracies == [(45 * row.epoch, pytest.approx(row.top1)) for row in trainer.history()]
    assert len(accuracies) == RECIPE.epochs


def test_a_tracker_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="no tracker is called 'tensorbord'; did you mean tensorboard"):
        check_tracker("tensorbord")
    monkeypatch.setattr("mobilevit_sdk.training.tracking.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"tensorboard is not installed: pip install 'mobilevit-sdk\[track\]'"):
        check_tracker("tensorboard")
