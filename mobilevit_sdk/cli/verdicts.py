"""Verdicts as tables and lines on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from mobilevit_sdk.cli.common import print_line
from mobilevit_sdk.cli.tables import Table
from mobilevit_sdk.parity import Outcome, Verdict
from mobilevit_sdk.parity.gate import loosened
from mobilevit_sdk.text import count, percent

_STYLE = {"passed": "green", "failed": "bold red", "error": "bold red", "unavailable": "yellow"}


def print_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """Print a row for each verdict with the numbers of its worst case, then the reasons of those that did not pass, and
    the reasons of thresholds that the project has lowered.
    """
    artifact = "artifact · phone" if any(verdict.device for verdict in verdicts) else "artifact"
    columns = ("verdict", artifact, "runtime", "cases", "worst SQNR", "same best class", "max diff")
    table = Table(*columns, name=artifact, left=("verdict", "runtime"), drops=("max diff", "cases", "same best class"))
    for verdict in verdicts:
        agreement = verdict.agreement
        numbers: tuple[str, ...] = ()
        if agreement:
            numbers = (
                str(agreement.cases),
                f"{agreement.sqnr_db.worst:.1f} dB",
                percent(agreement.top1_agreement),
                f"{agreement.max_abs_diff:.1e}",
            )
        name = " · ".join(filter(None, (_name(verdict), verdict.device)))
        table.add_row(Text(verdict.status, _STYLE[verdict.status]), name, verdict.runtime, *numbers)
    table.print(console)
    for verdict in verdicts:
        if outputs := verdict.by_output():
            print_line(console, "outputs", "bold", f"{_name(verdict)} on {verdict.place}: {outputs}")
        if verdict.reason:
            where = f"{_name(verdict)} on {verdict.place}"
            print_line(console, verdict.status, _STYLE[verdict.status], f"{where}: {verdict.reason}")
        if verdict.agreement and verdict.agreement.top1_ties:
            tied = f"{count(verdict.agreement.top1_ties, 'case')} with another best class that PyTorch scores as high"
            print_line(console, "tie", "yellow", f"{_name(verdict)} on {verdict.place}: {tied}, to within its error")
    for precision, threshold in loosened(verdicts).items():
        values = f"{threshold.sqnr_db:g} dB and {threshold.top1_agreement:.4g} of the best classes"
        if threshold.task_agreement is not None:
            values += f", {threshold.task_agreement:.4g} of the task's classes and {threshold.task_sqnr_db:g} dB there"
        print_line(console, "note", "yellow", f"{precision} has lowered thresholds, {values}: {threshold.reason}")


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Print verdicts, how far the artifacts are from each other, and drift."""
    print_verdicts(outcome.verdicts, console)
    for divergence in outcome.divergences:
        print_line(console, "where", "bold", f"{_run(divergence.artifact, divergence.runtime)}: {divergence.message}")
    if outcome.pairs:
        worst = outcome.pairs[0]
        among = f"{count(outcome.pairs, 'pair')} among each other, the farthest at {worst.sqnr_db.worst:.1f} dB"
        both = " and ".join(_run(*run) for run in worst.both)
        status = "failed" if any(pair.status == "failed" for pair in outcome.pairs) else "passed"
        print_line(console, status, _STYLE[status], f"{among}: {both}")
        for pair in outcome.contradictions:
            both = " and ".join(_run(*run) for run in pair.both)
            print_line(console, "failed", _STYLE["failed"], f"{both}, which pass alone: {pair.reason}")
    if outcome.drift:
        for note in outcome.drift.notes:
            print_line(console, "note", "yellow", note)
        for worse in outcome.drift.worse:
            print_line(console, "worse", _STYLE["failed"], f"{_run(worse.artifact, worse.place)}: {worse.message}")
        if not outcome.drift.worse:
            compared = f"{count(outcome.drift.compared, 'verdict')} compared with {outcome.drift.baseline}"
            print_line(console, "no worse", _STYLE["passed"], compared)


def _run(artifact: str, runtime: str) -> str:
    return f"{Path(artifact).parent.name} on {runtime}"


def _name(verdict: Verdict) -> str:
    return Path(verdict.artifact).parent.name
