"""Markdown for a pull request or a page: the table, then what is to be said about its rows."""

from __future__ import annotations

from mobilevit_sdk.comparison.record import Comparison, FileRow, cells
from mobilevit_sdk.text import count, markdown

_MARKS = {
    "passed": "✅ passed",
    "failed": "❌ failed",
    "rejected": "❌ rejected",
    "error": "❌ error",
    "not executed": "⚪ not executed",
    "not converted": "⚪ not converted",
}


def summary(comparison: Comparison) -> str:
    """The comparison in Markdown."""
    found = ", ".join(f"{number} {status}" for status, number in comparison.counts.items())
    weights = f" (SHA-256 {comparison.sha256[:12]})" if comparison.sha256 else ""
    lines = [f"## {markdown(comparison.model)} in every format: {found}", ""]
    lines += [
        f"{markdown(comparison.checkpoint)}{weights}, {count(comparison.images, 'image')} of "
        f"{markdown(comparison.data)}; mobilevit-sdk {comparison.sdk}, {comparison.when}.",
        "",
        "| format | precision | status | size, MB | same best class | top-1 | worst SQNR, dB | ms | conversion, s |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    latency = "" if comparison.median_ms is None else f"{comparison.median_ms:.2f}"
    lines += [f"| PyTorch | fp32 | reference | | | {comparison.top1:.2%} | | {latency} | |"]
    lines += [_row(row) for row in comparison.rows]
    notes = [
        f"**{row.status}**: {markdown(row.name)} {row.precision}: {markdown(row.reason)}"
        for row in comparison.rows
        if row.reason
    ]
    if comparison.asked:
        notes.insert(0, f"same best class and top-1 are of {markdown(comparison.asked)}")
    notes += [f"no ms on {name}: {markdown(why)}" for name, why in comparison.untimed_runtimes.items()]
    if comparison.calibration:
        notes.append(f"integers were calibrated with {markdown(comparison.calibration)}")
    if comparison.machine:
        threads = count(comparison.threads, "thread")
        notes.append(f"ms: the median of one image on {threads}, {markdown(comparison.machine.describe())}")
    notes += [markdown(note) for note in comparison.notes]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def _row(row: FileRow) -> str:
    shown = (markdown(row.name), row.precision, _MARKS[row.status], *cells(row).values())
    return f"| {' | '.join(shown)} |"
