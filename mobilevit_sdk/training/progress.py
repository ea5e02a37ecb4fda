"""What a training reports while it runs."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from mobilevit_sdk.progress import Step
from mobilevit_sdk.training.metrics import EpochResult


@dataclass(frozen=True, kw_only=True)
class TrainingStarted(Step):
    """The first step is about to run; `resumed` says from where, and is empty for a new training."""

    resumed: str = ""


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
