"""For the gate's report: where each artifact that failed parts from PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mobilevit_sdk.bisection.report import headline, without_copies
from mobilevit_sdk.bisection.search import bisect
from mobilevit_sdk.errors import MobileViTError
from mobilevit_sdk.parity import THRESHOLDS, Outcome, Threshold
from mobilevit_sdk.parity.outcome import Divergence
from mobilevit_sdk.text import one_line


def find_divergences(
    outcome: Outcome,
    *,
    checkpoint: str | None = None,
    thresholds: Mapping[str, Threshold] = THRESHOLDS,
    on_progress: Callable[[str], None] = lambda doing: None,
) -> tuple[Divergence, ...]:
    """Bisect every artifact of which a run failed. One that cannot be bisected says why instead."""
    divergences: dict[str, Divergence] = {}
    for run, verdict in zip(outcome.runs, outcome.verdicts, strict=True):
        if verdict.status != "failed" or verdict.artifact in divergences:
            continue
        try:
            found = bisect(run.artifact, checkpoint=checkpoint, thresholds=thresholds, on_progress=on_progress)
        except MobileViTError as error:
            divergences[verdict.artifact] = Divergence(
                artifact=verdict.artifact,
                runtime=verdict.runtime,
                message=one_line(f"cannot be bisected: {error}", 2000),
                operators=(),
                culprit=None,
            )
            continue
        operators = without_copies(found.operators)
        divergences[verdict.artifact] = Divergence(
            artifact=verdict.artifact,
            runtime=found.runtime,
            message=one_line(headline(found), 2000),
            operators=tuple((each.place, each.sqnr_db) for each in operators),
            culprit=operators.index(found.culprit) if found.culprit in operators else None,
        )
    return tuple(divergences.values())
