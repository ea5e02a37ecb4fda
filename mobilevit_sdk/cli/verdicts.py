"""How verdicts look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from mobilevit_sdk.parity import Verdict

_STYLE = {"passed": "green", "failed": "bold red", "error": "bold red", "unavailable": "yellow"}


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """One row a verdict; numbers of the worst case."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("verdict", no_wrap=True)
    table.add_column("artefact", no_wrap=True)
    table.add_column("runtime", no_wrap=True)
    for column in ("cases", "worst SQNR", "median", "max diff", "top-1"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for verdict in verdicts:
        agreement = verdict.agreement
        numbers = ("", "", "", "", "")
        if agreement:
            numbers = (
                str(agreement.cases),
                f"{agreement.sqnr_db.worst:.1f} dB",
                f"{agreement.sqnr_db.median:.1f} dB",
                f"{agreement.max_abs_diff:.1e}",
                f"{agreement.top1_agreement:.0%}",
            )
        table.add_row(
            f"[{_STYLE[verdict.status]}]{verdict.status}[/]",
            f"{Path(verdict.artifact).name} {verdict.precision}",
            verdict.runtime,
            *numbers,
            verdict.reason or "",
        )
    return table
