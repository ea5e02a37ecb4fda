"""Top-1 and top-5 accuracy of anything that answers images with class scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mobilevit_sdk.data import ImageDataset, crop_image
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.spec import ModelSpec

# RGB uint8 [B, 3, H, W] -> class scores [B, num_classes]
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Accuracy:
    images: int
    top1: float  # share, 0 to 1
    top5: float


def check_labels(dataset: ImageDataset, spec: ModelSpec) -> None:
    """Raise RequestError when the classes of the data are not those of the head."""
    highest = max(dataset.labels or [0])
    names = dataset.class_names
    if highest >= spec.num_classes or (names and len(names) > spec.num_classes):
        found = len(names) if names else highest + 1
        raise RequestError(f"{dataset.source} has {found} classes, but the head of {spec.model} has {spec.num_classes}")
    if names and spec.labels and tuple(names) != spec.labels[: len(names)]:
        at = next(i for i, (a, b) in enumerate(zip(names, spec.labels, strict=False)) if a != b)
        raise RequestError(f"{dataset.source} calls class {at} {names[at]!r}, but {spec.model} calls it {spec.labels[at]!r}")


def evaluate(
    predict: Predict,
    spec: ModelSpec,
    dataset: ImageDataset,
    *,
    batch_size: int = 64,
    report: Callable[[int], None] = lambda done: None,
) -> Accuracy:
    """Run `predict` over a labelled dataset, preprocessed as `spec` says; `report` hears how many images are done."""
    check_labels(dataset, spec)
    labels = np.asarray(dataset.labels)
    top1 = top5 = 0
    for start in range(0, len(dataset), batch_size):
        rows = range(start, min(start + batch_size, len(dataset)))
        scores = predict(np.stack([crop_image(dataset.image(row), spec.preprocessing) for row in rows]))
        ranked = np.argsort(-scores, axis=1, kind="stable")[:, :5] == labels[rows, None]
        top1 += int(ranked[:, 0].sum())
        top5 += int(ranked.any(axis=1).sum())
        report(rows.stop)
    return Accuracy(len(dataset), top1 / len(dataset), top5 / len(dataset))
