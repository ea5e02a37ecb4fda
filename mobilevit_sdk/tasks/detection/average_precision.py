"""Average precision of boxes, as COCO measures it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mobilevit_sdk.data.objects import Objects
from mobilevit_sdk.tasks.detection.found import Found

MOST = 100  # boxes of a picture that count, the likeliest: COCO's number


@dataclass(frozen=True)
class AveragePrecision:
    """Shares from 0 to 1: the mean over classes and over IoU of 0.5 to 0.95, at 0.5, at 0.75, and by class.

    `recall` is the mean of the highest recalls with 100 boxes a picture. Classes without objects do not count.
    """

    images: int
    ap: float
    ap50: float
    ap75: float
    recall: float
    by_class: dict[str, float] = field(default_factory=dict)
    not_finite: int = 0

    @property
    def shares(self) -> dict[str, float]:
        """See `Quality`."""
        return {"ap": self.ap, "ap50": self.ap50, "ap75": self.ap75}

    def describe(self) -> str:
        """See `Quality`."""
        return f"AP {self.ap:.1%}, AP50 {self.ap50:.1%}, AP75 {self.ap75:.1%}"


def average_precision(
    objects: Sequence[Objects], found: Sequence[Found | None], class_names: Sequence[str]
) -> AveragePrecision:
    """Of what was found in pictures that hold `objects`; None for a picture whose answers are not finite.

    What is found within a crowd is neither right nor wrong. Without any object, precision means nothing: all is 0.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = {
        "images": [{"id": image} for image in range(len(objects))],
        "categories": [{"id": index, "name": name} for index, name in enumerate(class_names)],
        "annotations": [
            {
                "id": number,  # from 1: pycocotools takes 0 for "none"
                "image_id": image,
                "category_id": int(label),
                "bbox": box.tolist(),
                "area": float(box[2] * box[3]),
                "iscrowd": int(crowd),
            }
            for number, (image, box, label, crowd) in enumerate(
                (
                    (image, *each)
                    for image, known in enumerate(objects)
                    for each in zip(known.boxes.astype(np.float64), known.classes, known.crowd, strict=True)
                ),
                start=1,
            )
        ],
    }
    answers = np.concatenate(
        [np.empty((0, 7))]
        + [
            np.column_stack([np.full(len(each.classes), image), each.boxes, each.probabilities, each.classes])
            for image, each in enumerate(found)
            if each is not None
        ]
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        truth.createIndex()
        evaluation = COCOeval(truth, _results(truth, answers), "bbox")
        evaluation.params.maxDets = [MOST]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = (evaluation.eval[name] for name in ("precision", "recall"))
    curves = precision[..., 0, 0]  # [IoU, recall, class]; -1 for a class without objects
    thresholds = evaluation.params.iouThrs
    return AveragePrecision(
        images=len(objects),
        ap=_mean(curves),
        ap50=_mean(curves[np.isclose(thresholds, 0.5)]),
        ap75=_mean(curves[np.isclose(thresholds, 0.75)]),
        recall=_mean(recall[..., 0, 0]),
        by_class={
            name: _mean(curves[..., index]) for index, name in enumerate(class_names) if (curves[..., index] > -1).any()
        },
        not_finite=sum(each is None for each in found),
    )


def _results(truth: Any, answers: np.ndarray) -> Any:
    """`truth.loadRes` refuses an empty array."""
    from pycocotools.coco import COCO

    if len(answers):
        return truth.loadRes(answers)
    nothing = COCO()
    nothing.dataset = {**truth.dataset, "annotations": []}
    nothing.createIndex()
    return nothing


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else 0.0
