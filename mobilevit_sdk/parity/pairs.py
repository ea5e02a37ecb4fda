"""Agreement of artifacts with each other: every two from one checkpoint that answered the same images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.parity.gate import counts
from mobilevit_sdk.parity.metrics import Agreement, WorstMedian, compare, same_best
from mobilevit_sdk.parity.runs import Run, place
from mobilevit_sdk.parity.thresholds import THRESHOLDS, Threshold
from mobilevit_sdk.parity.views import by_output, worst_output
from mobilevit_sdk.spec import Output, Strict
from mobilevit_sdk.text import of_all, percent


class Pair(Strict, frozen=True):
    """How near the answers of two runs are to each other: the signal over the noise between them."""

    first: str
    first_runtime: str
    first_device: str | None  # the phone of the first run; None: this machine
    second: str
    second_runtime: str
    second_device: str | None
    status: Literal["passed", "failed"]
    cases: int
    sqnr_db: WorstMedian
    top1_agreement: float | None  # None: features, which have no best class
    top1_ties: int | None  # of these, cases in which either run ties with PyTorch's best class
    threshold: Threshold  # that follows from those of the two runs
    reason: str | None

    @property
    def both(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Artifact and place of the two runs."""
        first = self.first, place(self.first_runtime, self.first_device)
        return first, (self.second, place(self.second_runtime, self.second_device))

    def to_json(self) -> dict[str, object]:
        row: dict[str, object] = msgspec.to_builtins(self)
        return row


def compare_runs(runs: Sequence[Run], thresholds: Mapping[str, Threshold] = THRESHOLDS) -> list[Pair]:
    """A Pair for every two runs of one checkpoint with images in common, the farthest apart first.

    The noise is the difference of their answers, the signal PyTorch's answers. By the triangle inequality, two runs
    that meet their thresholds against one reference meet that of the pair: two that pass alone and are still farther
    apart were not compared with the same reference.
    """
    answered = [run for run in runs if run.outputs is not None and run.artifact.manifest.precision in thresholds]
    pairs = []
    for first, second in itertools.combinations(answered, 2):
        if _checkpoint(first) == _checkpoint(second) and (common := _common_cases(first, second, thresholds)):
            pairs.append(_pair(first, second, common, thresholds))
    return sorted(pairs, key=lambda pair: pair.sqnr_db.worst)


def _pair(first: Run, second: Run, common: list[tuple[int, int]], thresholds: Mapping[str, Threshold]) -> Pair:
    expected, one = _rows(first.reference, [i for i, _ in common]), _rows(first, [i for i, _ in common])
    other = _rows(second, [j for _, j in common])
    assert first.reference is not None
    parts = zip(*map(first.reference.split, (expected, one, other)), strict=True)
    threshold = _between(*(thresholds[run.artifact.manifest.precision] for run in (first, second)))
    found = {
        output.name: _apart(output, of_output, threshold)
        for output, of_output in zip(first.artifact.manifest.spec.outputs, parts, strict=True)
    }
    misses = {name: each.misses for name, each in found.items()}
    worst = found[worst_output({name: each.agreement for name, each in found.items()}, misses)]
    return Pair(
        first=str(first.artifact.path),
        first_runtime=first.runtime,
        first_device=first.device,
        second=str(second.artifact.path),
        second_runtime=second.runtime,
        second_device=second.device,
        status="failed" if any(misses.values()) else "passed",
        cases=len(common),
        sqnr_db=worst.agreement.sqnr_db,
        top1_agreement=worst.top1,
        top1_ties=worst.ties,
        threshold=threshold,
        reason="; ".join(by_output(misses)) or None,
    )


class _Apart(NamedTuple):
    """How far two runs are apart in one output."""

    agreement: Agreement
    top1: float | None
    ties: int | None
    misses: list[str]


def _apart(output: Output, rows: Sequence[np.ndarray], threshold: Threshold) -> _Apart:
    """Of what the reference and both runs answer, [cases, ...]."""
    expected, one, other = rows if output.kind == "query-scores" else (each.reshape(len(each), -1) for each in rows)
    agreement = compare(expected, expected + (other - one), kind=output.kind)
    top1, ties = _same_class(expected, one, other) if output.kind == "scores" else (None, None)
    misses = []
    if agreement.sqnr_db.worst < threshold.sqnr_db:
        misses.append(f"SQNR {agreement.sqnr_db.worst:.1f} dB between them is below {threshold.sqnr_db:.1f} dB")
    if top1 is not None and top1 < threshold.top1_agreement - 1e-9:
        same = of_all(top1, len(expected), "images")
        misses.append(f"the same best class on {same} is below {percent(threshold.top1_agreement)}")
    return _Apart(agreement, top1, ties, misses)


def _same_class(expected: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[float, int]:
    """The share of the cases in which both have the same best class or either ties with PyTorch's, and those ties."""
    same, _ = same_best(one, other)
    tied = same_best(expected, one)[1] | same_best(expected, other)[1]
    return float((same | tied).mean()), int((tied & ~same).sum())


def _between(first: Threshold, second: Threshold) -> Threshold:
    """What a pair reaches when each run meets its threshold: noise adds in amplitude at most, and so do disagreements.

    Rounded down to 0.1 dB.
    """
    noise = sum(10 ** (-threshold.sqnr_db / 20) for threshold in (first, second))
    return Threshold(
        sqnr_db=math.floor(-200 * math.log10(noise)) / 10,
        top1_agreement=max(0.0, first.top1_agreement + second.top1_agreement - 1),
    )


def _checkpoint(run: Run) -> tuple[object, ...]:
    origin, spec = run.artifact.manifest.origin, run.artifact.manifest.spec
    return (
        origin.sha256,
        origin.random_weights_seed,
        spec.model,
        spec.config_sha256,
        spec.outputs,
        spec.features,
        spec.preprocessing,
    )


def _common_cases(first: Run, second: Run, thresholds: Mapping[str, Threshold]) -> list[tuple[int, int]]:
    """Positions of the images that both answered and that count for both."""
    (one, other) = (counts(_cases(run), thresholds[run.artifact.manifest.precision]) for run in (first, second))
    positions = {_content(case): j for j, case in enumerate(_cases(second)) if other[j]}
    return [
        (i, positions[key]) for i, case in enumerate(_cases(first)) if one[i] and (key := _content(case)) in positions
    ]


def _cases(run: Run) -> tuple[Case, ...]:
    assert run.reference is not None
    return run.reference.cases


def _content(case: Case) -> tuple[bytes, tuple[int, ...], bool]:
    return case.image.tobytes(), case.image.shape, case.contiguous  # black has the same bytes at 2x3 and at 3x2


def _rows(scores: Run | Reference | None, rows: list[int]) -> np.ndarray:
    """Those rows of the answers of a run or of the reference, in float64."""
    found = scores.outputs if isinstance(scores, Run) else scores.answers if scores else None
    assert found is not None
    return found[rows].astype(np.float64)
