"""The results of every epoch, kept as metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import decode_json, replacing

QUALITIES = {"top1": "top-1", "top5": "top-5", "ap": "AP", "ap50": "AP50"}  # as people have them
HEADS = {"top1_class": "class head", "top1_distillation": "distillation head"}


@dataclass(frozen=True)
class EpochResult:
    """One row of metrics.jsonl. Qualities are those of the averaged weights on the test images, from 0 to 1.

    They are top-1 and top-5 accuracy of a classifier, and average precision of a detector.
    """

    epoch: int
    loss: float  # mean over the epoch
    learning_rate: float  # of the last step
    images_per_second: float
    seconds: float  # of training, without the evaluation; of a resumed epoch, since the resumption
    top1: float | None = None
    top5: float | None = None
    quantized_top1: float | None = None  # of a quantization-aware training: in simulated integers
    ap: float | None = None
    ap50: float | None = None
    top1_class: float | None = None  # of a network with a distillation token, whose `top1` is that of both heads' mean
    top1_distillation: float | None = None
    attention_distance: tuple[float, ...] | None = None  # mean of each block, in pixels, where the recipe asks for it

    @property
    def shares(self) -> dict[str, float]:
        """Those qualities that were measured, by name, the one that decides first."""
        return {name: share for name in QUALITIES if (share := getattr(self, name)) is not None}

    @property
    def heads(self) -> dict[str, float]:
        """The top-1 of each head where there are two, by name."""
        return {name: share for name in HEADS if (share := getattr(self, name)) is not None}

    @property
    def deciding(self) -> float:
        """What the best epoch has most of: in simulated integers, where the training is for those."""
        return next(iter(self.shares.values())) if self.quantized_top1 is None else self.quantized_top1

    def describe(self) -> str:
        """In a few words."""
        (decides, share), *others = self.shares.items()
        each = ", ".join(f"{HEADS[name]} {own:.2%}" for name, own in self.heads.items())
        rest = "".join(f", {QUALITIES[name]} {other:.2%}" for name, other in others)
        return f"{QUALITIES[decides]} {share:.2%}{f' ({each})' if each else ''}{rest}"


def best_epoch(history: Sequence[EpochResult]) -> EpochResult:
    """The first epoch of the highest top-1 or AP."""
    return max(history, key=lambda row: row.deciding)


def read_metrics(path: Path, epochs: int) -> list[EpochResult]:
    """The results of the first `epochs` epochs; none where there is no file. Raises CheckpointError if damaged."""
    try:
        rows = [decode_json(line, EpochResult) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it and run again") from error
    return [row for row in rows if row.epoch <= epochs]


def write_metrics(rows: Sequence[EpochResult], path: Path) -> None:
    """One JSON object a line, an epoch each. Raises RequestError when the file cannot be written."""
    with replacing(path) as fresh:
        fresh.write_text("".join(json.dumps(_plain(row)) + "\n" for row in rows), encoding="utf-8")


def _plain(row: EpochResult) -> dict[str, Any]:
    """Without the qualities of other tasks and networks."""
    unmeasured = (QUALITIES | HEADS).keys() - row.shares.keys() - row.heads.keys()
    unmeasured |= {"attention_distance"} if row.attention_distance is None else set()
    return {name: value for name, value in msgspec.to_builtins(row).items() if name not in unmeasured}
