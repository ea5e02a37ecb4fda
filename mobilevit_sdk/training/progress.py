"""What a training tells while it runs, and what it keeps of every epoch."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands; `epoch` counts from 1, images are those of all epochs."""

    epoch: int
    epochs: int
    images_done: int
    images_total: int
    images_per_second: float  # of the last minute
    seconds_left: float
    loss: float  # mean of the last 50 steps
    size: int  # of the input, pixels


@dataclass(frozen=True)
class EpochResult:
    """One row of metrics.jsonl. Loss: mean over the epoch; accuracies: shares of the test images, averaged weights."""

    epoch: int
    loss: float
    learning_rate: float
    top1: float
    top5: float
    images_per_second: float
    seconds: float  # of training, without the evaluation; since the resumption in an epoch that was interrupted
    quantized_top1: float | None = None  # of a quantization-aware training: in simulated integers


class Meter:
    """Images a second over the last minute, evaluations included, so that the time left is honest."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.images = 0  # since the start of this run
        self.ticks = deque([(time.monotonic(), 0)])

    def tick(self, images: int) -> None:
        self.images += images
        now = time.monotonic()
        self.ticks.append((now, self.images))
        while len(self.ticks) > 2 and now - self.ticks[0][0] > 60:
            self.ticks.popleft()

    @property
    def rate(self) -> float:
        (first, images_then), (last, images_now) = self.ticks[0], self.ticks[-1]
        return (images_now - images_then) / (last - first) if last > first else 0.0
