"""How accuracy, or average precision, falls as more of a network is pruned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.measure import network_predictor
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.pruning.images import PruningImages
from mobilevit_sdk.pruning.pruner import prune_network
from mobilevit_sdk.pruning.request import Request
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.tasks.quality import deciding

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


class SweepPoint(Strict, frozen=True):
    """A pruning without fine-tuning; all values are shares from 0 to 1."""

    keep: float  # what was asked for
    macs: float  # what is left
    parameters: float
    top1: float | None = None
    ap: float | None = None  # of a detector

    @property
    def quality(self) -> float | None:
        """Whichever was measured."""
        return self.top1 if self.ap is None else self.ap


@dataclass(frozen=True, kw_only=True)
class SweepStep(Step):
    """A share is done; `point` is None where it cannot be reached, and `detail` says why."""

    point: SweepPoint | None


def sweep(
    original: Checkpoint,
    request: Request,
    images: PruningImages | None,
    test: ImageDataset,
    *,
    latency_table: Mapping[str, float] | None = None,
    progress: Progress = silent,
) -> list[SweepPoint]:
    """Prune to each of SHARES as `request` says, and measure on `test`; the first unreachable share ends it."""
    points = []
    for keep in SHARES:
        asked = msgspec.structs.replace(request, keep=keep)
        try:
            pruned = prune_network(
                original.model, original.spec, asked, images, latency_table=latency_table, progress=progress
            )
        except RequestError as error:
            progress(SweepStep(f"keep {keep:.1f}", detail=str(error), point=None))
            break
        predict = network_predictor(pruned.model, pruned.spec)
        quality = task_of(pruned.spec).measure(predict, test, progress=progress)
        macs, parameters = (after / before for before, after in (pruned.macs, pruned.parameters))
        points.append(SweepPoint(keep, macs, parameters, **deciding(quality)))
        progress(SweepStep(f"keep {keep:.1f}", detail=quality.describe(), point=points[-1]))
    return points
