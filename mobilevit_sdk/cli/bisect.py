"""`mobilevit bisect`: where an artifact diverges from PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import log, out, print_json, verb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from mobilevit_sdk.bisection import Bisection, Block, Operator


@verb("bisect")
@click.argument("artifact", metavar="ARTIFACT", type=click.Path(path_type=Path))
@click.option("--checkpoint", help="The checkpoint that the artifact was made of, if it is not where it was.")
@click.option("--runtime", metavar="NAME", help="Compute on this runtime; by default the first that runs here.")
@click.option("--report", type=click.Path(path_type=Path), help="Write bisect.json and bisect.png into this folder.")
def command(artifact: Path, checkpoint: str | None, runtime: str | None, report: Path | None, as_json: bool) -> int:
    """Find the first operator at which an artifact diverges from the PyTorch reference.

    Every value that the file computes is compared with PyTorch's, and with that of a fresh conversion of the same
    checkpoint. Exit 0: the scores meet the threshold, and the weakest operator is named. 1: they miss it, and the block
    and the operator at fault are named.
    """
    import msgspec

    from mobilevit_sdk.bisection import bisect, write_bisection
    from mobilevit_sdk.cli.display import Display
    from mobilevit_sdk.parity import find_config, read_thresholds

    thresholds = read_thresholds(find_config(Path.cwd()))
    with Display(log) as display:
        bisection = bisect(artifact, checkpoint=checkpoint, runtime=runtime, thresholds=thresholds, progress=display)
    if report:
        write_bisection(bisection, report)
    if as_json:
        print_json(msgspec.to_builtins(bisection))
    else:
        _print(bisection)
        if report:
            out.print(f"picture: {report / 'bisect.png'}", soft_wrap=True)
    return 1 if bisection.status == "diverged" else 0


def _print(bisection: Bisection) -> None:
    from mobilevit_sdk.bisection.report import without_copies

    blocks = bisection.blocks
    out.print(_table(("block", "operators"), ((block, block.block, str(block.operators)) for block in blocks)))
    named = bisection.culprit or bisection.weakest
    inside = [each for each in without_copies(bisection.operators) if each.block == named.block]
    out.print(f"\n[bold]{named.block or 'the model itself'}[/bold]")
    out.print(_table(("layer", "operator"), ((each, each.place, each.operator) for each in inside), named))
    for line in _verdict(bisection):
        out.print(line, soft_wrap=True)


def _table(
    titles: tuple[str, str],
    rows: Iterable[tuple[Block | Operator, str, str]],
    named: Operator | None = None,
) -> Table:
    """Blocks or operators with their numbers; what diverged, and `named`, stand out."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in titles:
        table.add_column(title, no_wrap=True)
    for title in ("SQNR", "made here", "costs", "fresh", "fresh, made here"):
        table.add_column(title, justify="right", no_wrap=True)
    for row, name, what in rows:
        numbers = (row.sqnr_db, row.created_db, row.cost_db, row.fresh_sqnr_db, row.fresh_created_db)
        stands_out = row is named or getattr(row, "diverged", False)
        table.add_row(name or "(model)", what, *map(_decibel, numbers), style="bold red" if stands_out else None)
    return table


def _decibel(value: float) -> str:
    from mobilevit_sdk.parity.metrics import CEILING_DB

    return "exact" if value >= CEILING_DB else f"{value:.1f} dB"


def _verdict(bisection: Bisection) -> Iterable[str]:
    from mobilevit_sdk.bisection.report import headline

    styles = {"diverged": "bold red", "differs": "yellow", "agrees": "green"}
    yield f"\n[{styles[bisection.status]}]{headline(bisection)}[/]"
    culprit = bisection.culprit
    if culprit is None:
        return
    if bisection.cause == "conversion":
        yield (
            "a fresh conversion of the checkpoint diverges there as well: it is not this file but the converter, the "
            "runtime, or a precision too low for this network"
        )
    else:
        yield (
            f"on the inputs that the file gave it, {culprit.artifact_operator} is at {culprit.created_db:.1f} dB; in a "
            f"fresh conversion of the checkpoint at {culprit.fresh_created_db:.1f} dB"
        )
    if culprit.also:
        yield f"the weights of {', '.join(culprit.also)} are folded into it"
    if bisection.others:
        are = "operator is" if bisection.others == 1 else "operators are"
        yield f"{bisection.others} more {are} off behind it, inherited errors aside"
