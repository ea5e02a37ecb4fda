"""How verdicts look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mobilevit_sdk.parity import Verdict

_STYLE = {"passed": "green", "failed": "bold red", "error": "bold red", "unavailable": "yellow"}


def print_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """A row for each verdict, numbers of the worst case, then the reasons of those that did not pass."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("verdict", "artefact", "runtime"):
        table.add_column(column, no_wrap=True)
    for column in ("cases", "worst SQNR", "max diff", "top-1"):
        table.add_column(column, justify="right", no_wrap=True)
    for verdict in verdicts:
        agreement = verdict.agreement
        numbers = ("", "", "", "")
        if agreement:
            numbers = (
                str(agreement.cases),
                f"{agreement.sqnr_db.worst:.1f} dB",
                f"{agreement.max_abs_diff:.1e}",
                f"{agreement.top1_agreement:.0%}",
            )
        table.add_row(Text(verdict.status, _STYLE[verdict.status]), _name(verdict), verdict.runtime, *numbers)
    console.print(table)
    for verdict in verdicts:
        if verdict.reason:
            line = Text.assemble((verdict.status, _STYLE[verdict.status]), f": {_name(verdict)} on {verdict.runtime}: ")
            console.print(line.append(verdict.reason), soft_wrap=True)


def _name(verdict: Verdict) -> str:
    return Path(verdict.artifact).parent.name
