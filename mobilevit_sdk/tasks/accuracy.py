"""Top-1 and top-5 accuracy of class scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Accuracy:
    """Shares of the images, 0 to 1, whose class has the highest score, or one of the five highest."""

    images: int
    top1: float
    top5: float
    not_finite: int = 0  # images with NaN or infinity among their scores

    @property
    def shares(self) -> dict[str, float]:
        """See `Quality`."""
        return {"top1": self.top1, "top5": self.top5}

    def describe(self) -> str:
        """See `Quality`."""
        return f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%}"


def top5_hits(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the class in `labels`, [images], is the one with the k-th highest score: bool [images, at most 5].

    `scores` are [images, num_classes]. Of equal scores the lower class index ranks first; a class whose score is NaN is
    never a hit. One score is right where it is above 0 and the label 1, or neither.
    """
    if scores.shape[1] == 1:
        right: np.ndarray = ((scores > 0) == (labels[:, None] == 1)) & ~np.isnan(scores)
        return right
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    hits: np.ndarray = (ranked == labels[:, None]) & ~np.isnan(np.take_along_axis(scores, ranked, axis=1))
    return hits


def top1_share(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of the rows of `scores`, [images, num_classes], whose highest is at the class in `labels`."""
    return float(top5_hits(scores, labels)[:, 0].mean())
