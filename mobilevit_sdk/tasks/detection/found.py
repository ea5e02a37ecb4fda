"""From what a detector answers to boxes on the picture; there is nothing to suppress, since each object has one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobilevit_sdk.spec import ModelSpec


@dataclass(frozen=True)
class Found:
    """What the queries answer for one picture, the likeliest first.

    `classes` int64 [Q], `probabilities` float64 [Q] of them, "no object" counted among the others, and `boxes` float64
    [Q, 4]: x and y of the upper left corner, width and height in pixels of the picture.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    boxes: np.ndarray

    def above(self, probability: float) -> Found:
        """Those that are at least so likely."""
        rows = self.probabilities >= probability
        return Found(self.classes[rows], self.probabilities[rows], self.boxes[rows])


def split_answers(rows: np.ndarray, spec: ModelSpec) -> tuple[np.ndarray, np.ndarray]:
    """Logits [B, Q, C + 1] and boxes [B, Q, 4] of answers that stand one after the other in rows, [B, values]."""
    logits, boxes = (output.shape or () for output in spec.outputs)
    end = int(np.prod(logits))
    return rows[:, :end].reshape(-1, *logits), rows[:, end:].reshape(-1, *boxes)


def found_objects(
    logits: np.ndarray, boxes: np.ndarray, region: tuple[float, float, float, float], size: tuple[int, int]
) -> Found:
    """The best class of every query with its softmax, and its box on the picture, cut at the edges of that.

    `region` is what the network sees of a picture of `size`, (width, height): x, y, width and height in pixels, see
    `seen_region`. Of equally likely ones the earlier query comes first. Shapes: [Q, C + 1] and [Q, 4], all finite.
    """
    scores = logits.astype(np.float64)
    shares = np.exp(scores - scores.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    classes = shares[:, :-1].argmax(1)
    probabilities = np.take_along_axis(shares, classes[:, None], 1)[:, 0]
    order = np.argsort(-probabilities, kind="stable")
    centers, extents = np.split(boxes.astype(np.float64), 2, axis=1)
    low, high = (np.clip((centers + sign * extents / 2) * region[2:] + region[:2], 0, size) for sign in (-1, 1))
    return Found(classes[order], probabilities[order], np.concatenate([low, high - low], 1)[order])
