"""What a training reports, told to TensorBoard or Weights & Biases as well."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.progress import Progress, Step
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.training.progress import EpochDone, TrainingStep

INSTALLED_BY = {"tensorboard": "pip install 'mobilevit-sdk[track]'", "wandb": "pip install wandb"}


def check_tracker(name: str | None) -> None:
    """Raises RequestError for one that nobody knows, or that is not installed."""
    if name is not None and name not in INSTALLED_BY:
        raise RequestError(f"no tracker is called {name!r}; {suggest(name, INSTALLED_BY)}")
    if name is not None and find_spec(name) is None:
        raise RequestError(f"{name} is not installed: {INSTALLED_BY[name]}")


@contextmanager
def tracked(progress: Progress, name: str, model: str, recipe: Recipe, out: Path, done: int) -> Iterator[Progress]:
    """`progress` that also tells Accelerate's tracker of this name; points are numbered by the images that were seen.

    TensorBoard's files are in the folder `out`/tensorboard, and Weights & Biases' own in `out`/wandb. A training that
    resumes when `done` images were seen goes on with its run there.
    """
    tracker = _started(name, model, out, done)
    if not done:
        tracker.store_init_configuration(
            {
                field: value if isinstance(value, (bool, int, float, str)) else msgspec.json.encode(value).decode()
                for field, value in msgspec.to_builtins(recipe).items()
            }
        )

    def tell(step: Step) -> None:
        progress(step)
        if isinstance(step, TrainingStep):
            tracker.log({"loss": step.loss, "images_per_second": step.images_per_second}, step=step.done)
        elif isinstance(step, EpochDone):
            values = {"epoch": step.result.epoch, "learning_rate": step.result.learning_rate, **step.result.shares}
            tracker.log(values, step=step.done)

    try:
        yield tell
    finally:
        tracker.finish()


def _started(name: str, model: str, out: Path, done: int) -> Any:
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    if name == "tensorboard":
        tracker = TensorBoardTracker("tensorboard", out, purge_step=done + 1)
    else:
        run = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
        tracker = WandBTracker("mobilevit", dir=str(out), id=run, resume="allow", name=model)
    tracker.start()
    return tracker
