"""The outcome of one run of the gate: verdicts, agreement of artifacts with each other, drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from mobilevit_sdk.parity.drift import Drift, VerdictBaseline, compare_with_baseline
from mobilevit_sdk.parity.gate import Verdict, judge, passed
from mobilevit_sdk.parity.pairs import Pair, compare_runs
from mobilevit_sdk.parity.runs import Run
from mobilevit_sdk.parity.thresholds import THRESHOLDS, Threshold
from mobilevit_sdk.spec import Strict


class Divergence(Strict, frozen=True):
    """Where an artifact that failed diverges from PyTorch, as a bisection on `runtime` found."""

    artifact: str
    runtime: str
    message: str
    operators: tuple[tuple[str, float], ...]  # module path and SQNR in dB of the result, in the order of computation
    culprit: int | None  # its position in `operators`


@dataclass(frozen=True)
class Outcome:
    """Runs with a verdict for each, in the same order; pairs of runs; `drift` where a baseline was given.

    `divergences` are there for artifacts that were bisected.
    """

    runs: tuple[Run, ...]
    verdicts: tuple[Verdict, ...]
    pairs: tuple[Pair, ...]
    drift: Drift | None = None
    divergences: tuple[Divergence, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything that ran met its thresholds, the runs agree with each other, and nothing became worse."""
        return passed(self.verdicts) and not self.missed

    @property
    def missed(self) -> bool:
        """Whether a threshold was missed, or something became worse than the baseline."""
        statuses = [*(verdict.status for verdict in self.verdicts), *(pair.status for pair in self.pairs)]
        return "failed" in statuses or bool(self.drift and self.drift.worse)

    @property
    def contradictions(self) -> tuple[Pair, ...]:
        """Pairs that failed although both runs passed alone, which no verdict explains."""
        good = {(verdict.artifact, verdict.place) for verdict in self.verdicts if verdict.status == "passed"}
        return tuple(pair for pair in self.pairs if pair.reason and set(pair.both) <= good)

    def to_json(self) -> dict[str, object]:
        """The document of `verify --json` and of verdicts.json."""
        document: dict[str, object] = {
            "passed": self.passed,
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "pairs": [pair.to_json() for pair in self.pairs],
        }
        if self.drift:
            document["drift"] = msgspec.to_builtins(self.drift)
        if self.divergences:
            document["divergences"] = msgspec.to_builtins(self.divergences)
        return document


def judge_runs(
    runs: Sequence[Run], *, thresholds: Mapping[str, Threshold] = THRESHOLDS, baseline: VerdictBaseline | None = None
) -> Outcome:
    """Judge runs one by one, with each other, and against an earlier run.

    Raises RequestError for a precision without thresholds.
    """
    verdicts = tuple(judge(run, thresholds) for run in runs)
    drift = compare_with_baseline(verdicts, baseline) if baseline else None
    return Outcome(tuple(runs), verdicts, tuple(compare_runs(runs, thresholds)), drift)
