"""How accuracy falls as more of a network is pruned."""

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

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


class SweepPoint(Strict, frozen=True):
    """A pruning without fine-tuning; all values are shares from 0 to 1."""

    keep: float  # what was asked for
    macs: float  # what is left
    parameters: float
    top1: float


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
    """Prune to each of SHARES as `request` says, and measure top-1 on `test`; the first unreachable share ends it."""
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
        top1 = task_of(pruned.spec).measure(predict, test, progress=progress).shares["top1"]
        macs, parameters = (after / before for before, after in (pruned.macs, pruned.parameters))
        points.append(SweepPoint(keep, macs, parameters, top1))
        progress(SweepStep(f"keep {keep:.1f}", detail=f"top-1 {top1:.2%}", point=points[-1]))
    return points
