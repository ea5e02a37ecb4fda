"""Write tests/golden/metrics.json: answers, and how near the SDK's gate finds them, for apps that preview its verdict.

    python tests/support/make_metrics_golden.py

A list of objects: `name`, `kind` (an output's), `shape` [cases, numbers], `classes` (of a detector's query, else null),
`reference` and `outputs` (base64 of float32, little-endian), `counted` (a flag for each case), and what
`parity.compare` says: `cases`, `worst` and `median` in dB, `max_abs_diff`, and `top1` (null for features, boxes and
where no query finds an object).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_sdk.parity.metrics import compare

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.json"


def metrics_cases() -> list[dict[str, Any]]:
    """The objects of the file."""
    return [_judged(*row) for row in (*_answers(), *_answers_of_queries())]


def _answers_of_queries() -> Iterator[tuple[str, str, np.ndarray, np.ndarray, np.ndarray]]:
    random = np.random.default_rng(20)
    reference = (random.normal(size=(5, 4, 6)) * 3).astype(np.float32)
    reference[:, 2, 5] = 20  # finds no object
    reference[3] = (0, 0, 0.001, 0, 0, 0.002)  # all of them near a tie: the median over the cases is its signal
    outputs = (reference + random.normal(size=reference.shape) * 0.01).astype(np.float32)
    yield "queries", "query-scores", reference, outputs, np.ones(5, bool)
    other = outputs.copy()
    other[0, :, 0], other[1, 2, 0], other[4, 1, 3] = 30, 40, np.nan
    yield "queries with other classes", "query-scores", reference, other, np.array([True, True, True, False, True])
    nothing = reference.copy()
    nothing[..., 5] = 20
    yield "queries that find nothing", "query-scores", nothing, nothing, np.ones(5, bool)
    boxes = random.uniform(size=(5, 16)).astype(np.float32)
    yield "boxes", "boxes", boxes, (boxes + random.normal(size=boxes.shape) * 1e-4).astype(np.float32), np.ones(5, bool)


def _answers() -> Iterator[tuple[str, str, np.ndarray, np.ndarray, np.ndarray]]:
    random = np.random.default_rng(19)

    def row(name, classes, noise, kind="scores", count=7, uncounted=(), change=lambda outputs: None, offset=0.0):
        reference = (random.normal(size=(count, classes)) * 3 + offset).astype(np.float32)
        outputs = (reference + random.normal(size=reference.shape) * noise).astype(np.float32)
        change(outputs)
        counted = np.array([case not in uncounted for case in range(count)])
        return name, kind, reference, outputs, counted

    def put(index, value):
        return lambda outputs: outputs.__setitem__(index, value)

    yield row("float rounding", 10, 1e-6)
    yield row("equal to the last bit", 10, 0.0)
    yield row("half precision", 100, 1e-3)
    yield row("integers", 10, 0.5)
    yield row("another class wins", 5, 4.0)
    yield row("an offset that all classes share", 10, 1e-3, offset=100.0)
    yield row("edge cases do not count", 10, 1e-3, uncounted=(2, 5), change=put(5, 9.0))
    yield row("not a number", 10, 1e-3, change=put((3, 4), np.nan))
    yield row("infinite", 10, 1e-3, change=put((0, 9), np.inf))
    yield row("two classes", 2, 1e-2)
    yield row("two classes near each other", 2, 1e-2, offset=50.0)
    yield row("one score", 1, 1e-2)
    yield row("one score with another sign", 1, 3.0)
    yield row("a single case", 10, 1e-2, count=1)
    yield row("a single case of two classes", 2, 1e-2, count=1)
    yield row("features", 24, 1e-3, kind="features")
    yield row("zeros of features", 24, 1e-3, kind="features", change=put(slice(None), 0.0))
    reference = np.float32([[1, 1 + 1e-5, 0], [3, 1, 2], [0, 5, 1], [1, 2, 3]])
    tied = reference + np.float32([[2e-5, 0, 1e-5], [1e-5, 0, 2e-5], [0, 1e-5, 1e-5], [1e-5, 1e-5, 0]])
    yield "a tie within the error", "scores", reference, tied, np.ones(4, bool)
    reference = np.float32([[1, 1.0001, 0], [3, 1, 2], [0, 5, 1], [1, 4, 3], [4, 2, 3], [1, 2, 3]])
    outputs = reference + np.float32([[1e-5, 0, 0]])
    outputs[0], outputs[5] = (1.0001, 1.0, 0), (1.05, 2, 3)
    yield "one case's large error makes no ties in others", "scores", reference, outputs, np.ones(6, bool)


def _judged(name: str, kind: Any, reference: np.ndarray, outputs: np.ndarray, counted: np.ndarray) -> dict[str, Any]:
    found = compare(reference, outputs, kind=kind, counted=counted)
    return {
        "name": name,
        "kind": kind,
        "shape": [len(reference), reference[0].size],
        "classes": reference.shape[-1] if kind == "query-scores" else None,
        "reference": base64.b64encode(reference.astype("<f4").tobytes()).decode(),
        "outputs": base64.b64encode(outputs.astype("<f4").tobytes()).decode(),
        "counted": counted.tolist(),
        "worst": found.sqnr_db.worst,
        "median": found.sqnr_db.median,
        "cases": list(found.case_sqnr_db),
        "max_abs_diff": found.max_abs_diff,
        "top1": found.top1_agreement,
    }


if __name__ == "__main__":
    GOLDEN.write_text("[" + ",\n".join(json.dumps(case) for case in metrics_cases()) + "]\n")
