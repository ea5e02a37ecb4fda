"""Answers by output: each is compared by its kind, and the worst decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.parity.boxes import overlaps, pixel_differences
from mobilevit_sdk.parity.metrics import Agreement, compare, finds_object
from mobilevit_sdk.spec import ModelSpec, Output


@dataclass(frozen=True)
class View:
    """The answers of one output: PyTorch's and an artifact's, [cases, ...] each."""

    output: Output
    expected: np.ndarray
    actual: np.ndarray
    image_sizes: np.ndarray  # of the cases: height and width, [cases, 2]
    objects: np.ndarray | None = None  # of boxes, bool [cases, queries]: which find an object in PyTorch's answers

    @property
    def flat(self) -> tuple[np.ndarray, np.ndarray]:
        """Both as rows, [cases, values]."""
        return self.expected.reshape(len(self.expected), -1), self.actual.reshape(len(self.actual), -1)

    @property
    def shaped(self) -> tuple[np.ndarray, np.ndarray]:
        """Both as `compare` takes them: rows, but a detector's with an axis of queries."""
        return (self.expected, self.actual) if self.output.queries else self.flat

    def compare(self, counted: np.ndarray | None = None) -> Agreement:
        """See `metrics.compare`."""
        found = compare(*self.shaped, kind=self.output.kind, counted=counted)
        return found if self.output.kind != "boxes" else self._with_boxes(found, counted)

    def _with_boxes(self, found: Agreement, counted: np.ndarray | None) -> Agreement:
        rows = slice(None) if counted is None else counted
        expected, actual = self.expected[rows], self.actual[rows]
        objects = np.ones(expected.shape[:2], bool) if self.objects is None else self.objects[rows]
        shared = overlaps(expected, actual)[objects]
        farthest = float(pixel_differences(expected, actual, self.image_sizes[rows]).max())
        return msgspec.structs.replace(
            found,
            objects=int(objects.sum()),
            max_pixels=min(farthest, np.finfo(np.float64).max),
            worst_iou=float(shared.min()) if shared.size else None,
        )


def views_of(spec: ModelSpec, reference: Reference, answers: np.ndarray, rows: Sequence[int] = ()) -> list[View]:
    """A view of each output on rows of answers, [cases, values], in all cases or those in `rows`."""
    chosen = list(rows) if len(rows) else slice(None)
    expected, actual = reference.split(reference.answers[chosen]), reference.split(answers[chosen])
    sizes = np.array([case.image.shape[1:] for case in reference.cases])[chosen]
    views = [View(*each, sizes) for each in zip(spec.outputs, expected, actual, strict=True)]
    objects = next((finds_object(each.expected) for each in views if each.output.kind == "query-scores"), None)
    return [replace(each, objects=objects) if each.output.kind == "boxes" else each for each in views]


def worst_output(agreements: Mapping[str, Agreement], misses: Mapping[str, Sequence[str]] | None = None) -> str:
    """The name of the output that decides: one that misses its threshold, and of such the farthest from PyTorch's."""
    return min(agreements, key=lambda name: (not (misses or {}).get(name), agreements[name].sqnr_db.worst))


def lowest_db(views: Sequence[View]) -> float:
    """The SQNR of the worst case of the worst output, in dB."""
    return min(view.compare().sqnr_db.worst for view in views)


def case_db(views: Sequence[View]) -> np.ndarray:
    """The SQNR of each case in its worst output, in dB, [cases]."""
    found: np.ndarray = np.min([view.compare().case_sqnr_db for view in views], axis=0)
    return found


def by_output(misses: Mapping[str, Sequence[str]]) -> list[str]:
    """What each output misses, in one list that names the output where there are several."""
    several = len(misses) > 1
    return [f"{name}: {miss}" if several else miss for name, each in misses.items() for miss in each]
