"""Labels of a small data set, made by the tests in this process and, to be killed, in another."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec
import torch
from helpers import tiny_model

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.training import Labeled, labeling, store_labels

labeling.PART_IMAGES = (8, 8)
RECIPE = Recipe(erase_probability=0.3, seed=5)
EPOCHS = 3


def teacher(seed: int = 7, **changes: object) -> Checkpoint:
    """One that is sure of what it answers."""
    model, spec = tiny_model(seed, image_size=40)
    with torch.no_grad():
        [*model.parameters()][-2].mul_(8)
    return Checkpoint(model, msgspec.structs.replace(spec, **changes), "own", f"teacher{seed}.safetensors")


def make_labels(data: Path, out: Path, progress: Progress = silent, **options: object) -> Labeled:
    chosen = {"epochs": EPOCHS, "recipe": RECIPE, "top_k": 3, "batch_size": 4, "device": "cpu", **options}
    given = chosen.pop("teacher", None) or teacher()
    return store_labels(data, given, out, progress=progress, **chosen)  # type: ignore[arg-type]


def label_until_killed(data: Path, out: Path, steps: int) -> None:
    """Label, and die without warning after so many batches."""
    torch.set_num_threads(1)
    seen = 0

    def count(step: Step) -> None:
        nonlocal seen
        seen += step.stage == "labeling"
        if seen == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    make_labels(data, out, count)


if __name__ == "__main__":
    label_until_killed(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
