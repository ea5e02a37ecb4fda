"""For the gate's report: where each artifact that failed diverges from PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mobilevit_sdk.bisection.report import headline, without_copies
from mobilevit_sdk.bisection.search import bisect
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.errors import MobileViTError
from mobilevit_sdk.parity import Outcome, Threshold, Verdict
from mobilevit_sdk.parity.outcome import Divergence
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.text import one_line

ON_A_PHONE = "it failed on a phone, and only the runtimes of this machine show what is inside a file"


def find_divergences(
    outcome: Outcome,
    *,
    checkpoint: Checkpoint | Path | str | None = None,
    thresholds: Mapping[str, Threshold] | None = None,
    progress: Progress = silent,
) -> tuple[Divergence, ...]:
    """Bisect every artifact with a failed run. For one that cannot be bisected, the message says why.

    What failed on a phone alone cannot: only this machine's runtimes show what is inside.
    """
    divergences: dict[str, Divergence] = {}
    of_phones: dict[str, Divergence] = {}
    for run, verdict in zip(outcome.runs, outcome.verdicts, strict=True):
        if verdict.status != "failed" or verdict.artifact in divergences:
            continue
        if verdict.device:
            of_phones.setdefault(verdict.artifact, _not_bisected(verdict, ON_A_PHONE))
            continue
        try:
            found = bisect(run.artifact, checkpoint=checkpoint, thresholds=thresholds, progress=progress)
        except MobileViTError as error:
            divergences[verdict.artifact] = _not_bisected(verdict, str(error))
            continue
        operators = without_copies(found.operators)
        divergences[verdict.artifact] = Divergence(
            artifact=verdict.artifact,
            runtime=found.runtime,
            message=one_line(headline(found), 2000),
            operators=tuple((each.place, each.sqnr_db) for each in operators),
            culprit=operators.index(found.culprit) if found.culprit in operators else None,
        )
    return tuple((of_phones | divergences).values())


def _not_bisected(verdict: Verdict, why: str) -> Divergence:
    message = one_line(f"cannot be bisected: {why}", 2000)
    return Divergence(artifact=verdict.artifact, runtime=verdict.place, message=message, operators=(), culprit=None)
