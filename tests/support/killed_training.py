"""A small training of everything that is random, run by the tests in this process and, to be killed, in another."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec
import torch
from helpers import tiny_spec

from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.training import EpochResult, Recipe, Trainer, TrainingStep, trainer

RECIPE = Recipe(
    epochs=3, batch_size=8, sizes=(32, 40), size_ramp=0.3, warmup_epochs=1, mix_probability=0.5, learning_rate=5e-3
)


def make_trainer(data: Path | str, out: Path, recipe: Recipe = RECIPE, progress: Progress = silent) -> Trainer:
    """A trainer with dropout and stochastic depth, its first weights drawn from the recipe's seed."""
    spec = tiny_spec(image_size=40)
    spec = msgspec.structs.replace(spec, config={**spec.config, "dropout": 0.1, "stochastic_depth": 0.2})
    torch.manual_seed(recipe.seed)
    dataset = open_dataset(data, labeled=True)
    device = torch.device("cpu")
    return Trainer(build_model(spec), spec, recipe, dataset, dataset, out, device=device, progress=progress)


def stop_after_a_step(trainer: Trainer) -> None:
    """Make the next `run` stop after its first step."""
    trainer.progress = lambda step: trainer.stop()


def run_until_killed(data: Path, out: Path, steps: int) -> EpochResult | None:
    """Train, saving the state after every step, and die without warning after step `steps`."""
    trainer.SAVE_EVERY_SECONDS = -1.0
    torch.set_num_threads(1)
    seen = 0

    def count(step: Step) -> None:
        nonlocal seen
        seen += isinstance(step, TrainingStep)
        if seen == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    return make_trainer(data, out, progress=count).run()


if __name__ == "__main__":
    run_until_killed(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
