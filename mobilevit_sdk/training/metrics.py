"""The results of every epoch, kept as metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import replacing


@dataclass(frozen=True)
class EpochResult:
    """One row of metrics.jsonl. Accuracies are shares of the test images, 0 to 1, of the averaged weights."""

    epoch: int
    loss: float  # mean over the epoch
    learning_rate: float  # of the last step
    top1: float
    top5: float
    images_per_second: float
    seconds: float  # of training, without the evaluation; of a resumed epoch, since the resumption
    quantized_top1: float | None = None  # of a quantization-aware training: in simulated integers


def best_epoch(history: Sequence[EpochResult]) -> EpochResult:
    """The first epoch of the highest top-1: in simulated integers, where the training is for those."""
    return max(history, key=lambda row: row.top1 if row.quantized_top1 is None else row.quantized_top1)


def read_metrics(path: Path, epochs: int) -> list[EpochResult]:
    """The results of the first `epochs` epochs; none where there is no file. Raises CheckpointError if damaged."""
    try:
        rows = [msgspec.json.decode(line, type=EpochResult) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it and run again") from error
    return [row for row in rows if row.epoch <= epochs]


def write_metrics(rows: Sequence[EpochResult], path: Path) -> None:
    """One JSON object a line, an epoch each. Raises RequestError when the file cannot be written."""
    with replacing(path) as fresh:
        fresh.write_text("".join(json.dumps(msgspec.to_builtins(row)) + "\n" for row in rows), encoding="utf-8")
