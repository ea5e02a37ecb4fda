"""The one judge of integers: how well they do the task, on images that the network was not calibrated with.

`convert`, `verify --images` and `quantize` all ask it, so that they say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from mobilevit_sdk.artifacts.quantization_record import Judgment
from mobilevit_sdk.parity.boxes import overlaps
from mobilevit_sdk.parity.metrics import compare
from mobilevit_sdk.parity.thresholds import Threshold
from mobilevit_sdk.parity.views import View, by_output
from mobilevit_sdk.spec import Kind
from mobilevit_sdk.tasks.accuracy import top1_share
from mobilevit_sdk.text import of_all, percent

SAME_PLACE = 0.5  # IoU of two boxes of the same object, as AP50 has it


def judge_task(
    reference: np.ndarray,
    outputs: np.ndarray,
    threshold: Threshold,
    *,
    runtime: str,
    labels: np.ndarray | None = None,
    kind: Kind = "scores",
    objects: np.ndarray | None = None,
) -> Judgment:
    """Judge answers to images of the task, [images, ...], by those of the float network.

    Features, which have no class, are judged by their SQNR alone. Of a detector's scores, [images, queries, classes],
    it is the objects that keep their class, and of its boxes, [images, queries, 4], those of the `objects`, bool
    [images, queries], that overlap the float network's by an IoU of SAME_PLACE.

    Rejected where a smaller share keeps it than `task_agreement`, or where the SQNR of all images together is below
    `task_sqnr_db`. A share that is short by less than one is more than so few can tell: the SQNR decides alone. The
    points of top-1 that are lost are reported where there are `labels`, and never decide. Raises ValueError where the
    threshold has no bars for a task.
    """
    min_agreement, min_sqnr_db = threshold.task_agreement, threshold.task_sqnr_db
    if min_agreement is None or min_sqnr_db is None:
        raise ValueError("only integer precisions are judged by the task")
    found = compare(reference, outputs, kind=kind)
    agreement, counted, keeping = found.top1_agreement, found.cases, "images keep their class"
    if kind == "query-scores":
        counted, keeping = found.objects or 0, "objects keep their class"
    elif kind == "boxes" and objects is not None and objects.any():
        counted, keeping = int(objects.sum()), f"objects keep their place (IoU of {SAME_PLACE:g})"
        agreement = float((overlaps(reference, outputs)[objects] >= SAME_PLACE).mean())
    reasons = []
    too_noisy = found.overall_sqnr_db < min_sqnr_db
    if agreement is not None:
        short = min_agreement - agreement
        if short > 0 and (too_noisy or short >= 1 / counted):
            share = of_all(agreement, counted, keeping)
            reasons.append(f"{share}, at least {percent(min_agreement)} must (task_agreement)")
    if too_noisy:
        reasons.append(
            f"SQNR {found.overall_sqnr_db:.1f} dB of all images together is below {min_sqnr_db:g} dB (task_sqnr_db)"
        )
    return Judgment(
        runtime=runtime,
        images=found.cases,
        agreement=agreement,
        min_agreement=min_agreement,
        overall_sqnr_db=found.overall_sqnr_db,
        min_sqnr_db=min_sqnr_db,
        worst_sqnr_db=found.sqnr_db.worst,
        median_sqnr_db=found.sqnr_db.median,
        top1_float=None if labels is None else top1_share(reference, labels),
        top1=None if labels is None else top1_share(outputs, labels),
        objects=counted if kind in ("query-scores", "boxes") and agreement is not None else msgspec.UNSET,
        rejected=bool(reasons),
        reasons=tuple(reasons),
    )


def judge_view(view: View, threshold: Threshold, *, runtime: str, labels: np.ndarray | None = None) -> Judgment:
    """`judge_task` of one output."""
    kind, objects = view.output.kind, view.objects
    return judge_task(*view.shaped, threshold, runtime=runtime, labels=labels, kind=kind, objects=objects)


def judge_each(
    views: Sequence[View], threshold: Threshold, *, runtime: str, labels: Mapping[str, np.ndarray] | None = None
) -> dict[str, Judgment]:
    """`judge_task` of each output, by its name; `labels` are of the output that the images are labeled for."""
    known = labels or {}
    return {
        view.output.name: judge_view(view, threshold, runtime=runtime, labels=known.get(view.output.name))
        for view in views
    }


def judge_outputs(
    views: Sequence[View], threshold: Threshold, *, runtime: str, labels: Mapping[str, np.ndarray] | None = None
) -> Judgment:
    """What `judge_each` finds, in one: see `worst_judgment`."""
    return worst_judgment(judge_each(views, threshold, runtime=runtime, labels=labels))


def worst_judgment(found: Mapping[str, Judgment]) -> Judgment:
    """The noise of the noisiest output, the fewest images that keep their class, and the labeled output's top-1.

    One output that is rejected rejects all; its reasons name it where there are several.
    """
    judged = list(found.values())
    keeping = [each for each in judged if each.agreement is not None]
    least = min(keeping, key=lambda each: each.agreement or 0.0, default=judged[0])
    labeled = next((each for each in judged if each.top1 is not None), judged[0])
    noisiest = min(judged, key=lambda each: each.overall_sqnr_db or 0.0)
    return msgspec.structs.replace(
        least,
        overall_sqnr_db=noisiest.overall_sqnr_db,
        worst_sqnr_db=min(each.worst_sqnr_db for each in judged),
        median_sqnr_db=noisiest.median_sqnr_db,
        top1_float=labeled.top1_float,
        top1=labeled.top1,
        rejected=any(each.rejected for each in judged),
        reasons=tuple(by_output({name: each.reasons for name, each in found.items()})),
    )
