"""Markdown for a pull request: GitHub's step summary shows it unchanged."""

from __future__ import annotations

from pathlib import Path

from mobilevit_sdk.parity.gate import Verdict, loosened
from mobilevit_sdk.parity.outcome import Outcome
from mobilevit_sdk.parity.pairs import Pair
from mobilevit_sdk.text import count, markdown, percent

_MARKS = {"passed": "✅ passed", "failed": "❌ failed", "error": "❌ error", "unavailable": "⚪ unavailable"}


def summary(outcome: Outcome) -> str:
    """Verdicts as a table, then reasons, lowered thresholds, pairs and drift."""
    lines = [f"## Parity: {'passed' if outcome.passed else 'not passed'}", ""]
    lines += ["| | artifact | runtime | worst SQNR | at least | median | same best class | same best five | size |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    lines += [_row(verdict) for verdict in outcome.verdicts]
    notes = [
        f"**outputs**: {_name(verdict.artifact)} on {markdown(verdict.place)}: {outputs}"
        for verdict in outcome.verdicts
        if (outputs := verdict.by_output())
    ]
    notes += [
        f"**{verdict.status}**: {_name(verdict.artifact)} on {markdown(verdict.place)}: {markdown(verdict.reason)}"
        for verdict in outcome.verdicts
        if verdict.reason
    ]
    notes += [
        f"**{name} has a lowered threshold**: {markdown(row.reason)}"
        for name, row in loosened(outcome.verdicts).items()
        if row.reason
    ]
    notes += [
        f"**where**: {_name(divergence.artifact)} on {markdown(divergence.runtime)}: {markdown(divergence.message)}"
        for divergence in outcome.divergences
    ]
    if outcome.pairs:
        worst = outcome.pairs[0]
        among = f"{count(outcome.pairs, 'pair')} among each other, the farthest at {worst.sqnr_db.worst:.1f} dB"
        notes.append(f"{among}: {_both(worst)}")
        notes += [
            f"**failed**: {_both(pair)}, which pass alone: {markdown(pair.reason)}" for pair in outcome.contradictions
        ]
    if drift := outcome.drift:
        notes += [
            f"**worse**: {_name(item.artifact)} on {markdown(item.place)}: {markdown(item.message)}"
            for item in drift.worse
        ]
        if not drift.worse:
            notes.append(f"no worse than the baseline in {count(drift.compared, 'verdict')}")
        notes += [markdown(note) for note in drift.notes]
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _row(verdict: Verdict) -> str:
    agreement = verdict.agreement
    numbers = ["", "", "", "", ""]
    if agreement:
        numbers = [
            f"{agreement.sqnr_db.worst:.1f} dB",
            f"{verdict.thresholds.sqnr_db:g} dB",
            f"{agreement.sqnr_db.median:.1f} dB",
            percent(agreement.top1_agreement),
            percent(agreement.top5_agreement),
        ]
    cells = [_MARKS[verdict.status], _name(verdict.artifact), markdown(verdict.place), *numbers]
    return f"| {' | '.join(cells)} | {verdict.bytes / 1e6:.2f} MB |"


def _both(pair: Pair) -> str:
    return " and ".join(f"{_name(artifact)} on {markdown(where)}" for artifact, where in pair.both)


def _name(artifact: str) -> str:
    return markdown(Path(artifact).parent.name)
