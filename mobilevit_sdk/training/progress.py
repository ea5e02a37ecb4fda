"""What a training reports while it runs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from mobilevit_sdk.progress import Step
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.training.metrics import EpochResult
from mobilevit_sdk.training.schedule import OptimizerStep


@dataclass(frozen=True, kw_only=True)
class TrainingStarted(Step):
    """The first step is about to run; `resumed` says from where, and is empty for a new training.

    `note` is what else there is to say in a line, such as of the precision.
    """

    resumed: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainingStep(Step):
    """An optimizer step is done; `done` and `total` count the images of all epochs."""

    epoch: int  # from 1
    epochs: int
    images_per_second: float  # over the last minute
    seconds_left: float  # inf while unknown
    loss: float  # mean of the last 50 steps
    size: int  # of the input, pixels


@dataclass(frozen=True, kw_only=True)
class EpochDone(Step):
    """An epoch is trained, evaluated and saved."""

    result: EpochResult


@dataclass(frozen=True, kw_only=True)
class TrainingStopped(Step):
    """The training stopped before its end, and its state is saved."""


class Meter:
    """Images per second over the last minute, evaluations included, so that the time left is honest."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.images = 0  # since the start of this run
        self.ticks = deque([(time.monotonic(), 0)])

    def tick(self, images: int) -> None:
        """Count `images` more as trained on."""
        self.images += images
        now = time.monotonic()
        self.ticks.append((now, self.images))
        while len(self.ticks) > 2 and now - self.ticks[0][0] > 60:
            self.ticks.popleft()

    @property
    def rate(self) -> float:
        """Images per second."""
        (first, images_then), (last, images_now) = self.ticks[0], self.ticks[-1]
        return (images_now - images_then) / (last - first) if last > first else 0.0


def training_step(
    recipe: Recipe, epoch: int, step: OptimizerStep, images: int, losses: Sequence[float], meter: Meter
) -> TrainingStep:
    """What to tell of a step that is done, in an epoch counted from 0 of `images`, whose steps had these losses."""
    done, loss, rate = epoch * images + step.stop, float(np.mean(losses[-50:])), meter.rate
    seconds_left = (meter.total - done) / rate if rate else float("inf")
    left = f"{timedelta(seconds=round(seconds_left))} left · " if rate else ""
    return TrainingStep(
        f"epoch {epoch + 1}/{recipe.epochs}",
        done,
        meter.total,
        detail=f"{rate:,.0f} images/s · {left}loss {loss:.3f} · {step.size} px",
        epoch=epoch + 1,
        epochs=recipe.epochs,
        images_per_second=rate,
        seconds_left=seconds_left,
        loss=loss,
        size=step.size,
    )
