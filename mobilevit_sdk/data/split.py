"""One dataset split in two: images to train on, and others to measure on."""

from __future__ import annotations

import hashlib
from collections import defaultdict

from mobilevit_sdk.data.dataset import ImageDataset
from mobilevit_sdk.errors import RequestError


def split_dataset(dataset: ImageDataset, share: float) -> tuple[ImageDataset, ImageDataset]:
    """Hold out this share of each class, between 0 and 1: (the others, those held out), both labeled.

    Which images these are depends on their names only, so that trainings with other seeds and options measure on the
    same ones. Every class keeps an image to train on, and gives one away if it has two. Images with objects count as
    one class. Raises RequestError for a share out of range, unlabeled images, and where no class has two.
    """
    if not 0 < share < 1:
        raise RequestError(f"`test_share` must lie between 0 and 1, not {share:g}")
    labels = dataset.labels
    if labels is None and dataset.objects is not None:
        labels = [0] * len(dataset)
    if labels is None:
        raise RequestError(f"{dataset.source} has no labels to split by")
    by_class: defaultdict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        by_class[label].append(row)
    held_out: set[int] = set()
    for rows in by_class.values():
        drawn = sorted(rows, key=lambda row: hashlib.sha256(dataset.names[row].encode()).digest())
        held_out.update(drawn[: min(max(1, round(share * len(rows))), len(rows) - 1)])
    if not held_out:
        what = "one image" if dataset.labels is None else "one image a class"
        raise RequestError(f"{dataset.source} has {what}: there is none to hold out")
    kept = [row for row in range(len(dataset)) if row not in held_out]
    return dataset.at(kept), dataset.at(sorted(held_out))
