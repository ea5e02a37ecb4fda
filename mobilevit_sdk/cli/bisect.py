"""`mobilevit bisect`: where an artifact diverges from PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import log, out, print_json, verb
from mobilevit_sdk.cli.preparation import ImageSize
from mobilevit_sdk.cli.tables import Table
from mobilevit_sdk.files import require_place
from mobilevit_sdk.text import count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mobilevit_sdk.bisection import Bisection, Block, Operator


@verb("bisect", "Find the operator at which a file diverges from PyTorch.")
@click.argument("artifact", metavar="ARTIFACT", type=click.Path(path_type=Path))
@click.option("--checkpoint", help="The checkpoint that the artifact was made from, if it was moved.")
@click.option("--runtime", metavar="NAME", help="Use this runtime; by default the first that is available.")
@click.option("--image-size", type=ImageSize(), help="Of a file with several: that entry.  [the worst case's]")
@click.option("--model-explorer", type=click.Path(path_type=Path), help="Write the SQNR of each node for that viewer.")
@click.option("--report", type=click.Path(path_type=Path), help="Write bisect.json and bisect.png into this folder.")
def command(
    artifact: Path,
    checkpoint: str | None,
    runtime: str | None,
    image_size: tuple[int, int] | None,
    model_explorer: Path | None,
    report: Path | None,
    as_json: bool,
) -> int:
    """Find the first operator at which an artifact diverges from the PyTorch reference.

    Every value that the file computes is compared with PyTorch's, and with that of a fresh conversion of the same
    checkpoint. Exit 0: the scores meet the threshold, and the weakest operator is named. 1: they miss it, and the block
    and the operator at fault are named.
    """
    from mobilevit_sdk.cli.display import import_torch

    import_torch(log)

    import msgspec

    from mobilevit_sdk.bisection import bisect, require_drawn, write_bisection, write_overlay
    from mobilevit_sdk.cli.display import Display
    from mobilevit_sdk.parity import find_config, read_thresholds

    if report:
        require_place(report)
    if model_explorer:
        require_place(model_explorer.parent)
        require_drawn(artifact)
    thresholds = read_thresholds(find_config(Path.cwd()))
    with Display(log) as display:
        bisection = bisect(
            artifact,
            checkpoint=checkpoint,
            runtime=runtime,
            image_size=image_size,
            thresholds=thresholds,
            progress=display,
        )
    if report:
        write_bisection(bisection, report)
    nodes = write_overlay(bisection, artifact, model_explorer) if model_explorer else 0
    if as_json:
        print_json(msgspec.to_builtins(bisection))
    else:
        _print(bisection)
        if report:
            out.print(f"picture: {report / 'bisect.png'}", markup=False)
        if model_explorer:
            out.print(f"for Model Explorer: {model_explorer}, {count(nodes, 'node')}", markup=False)
    return 1 if bisection.status == "diverged" else 0


def _print(bisection: Bisection) -> None:
    from mobilevit_sdk.bisection.report import without_copies

    blocks = bisection.blocks
    _table(("block", "operators"), ((block, block.block, str(block.operators)) for block in blocks)).print(out)
    named = bisection.culprit or bisection.weakest
    inside = [each for each in without_copies(bisection.operators) if each.block == named.block]
    out.print(f"\n[bold]{named.block or 'the model itself'}[/bold]")
    _table(("layer", "operator"), ((each, each.place, each.operator) for each in inside), named).print(out)
    for line in _verdict(bisection):
        out.print(line)


def _table(
    titles: tuple[str, str],
    rows: Iterable[tuple[Block | Operator, str, str]],
    named: Operator | None = None,
) -> Table:
    """Blocks or operators with their numbers; those that diverged, and `named`, are highlighted."""
    measured = ("SQNR", "created", "costs", "fresh", "fresh created")
    table = Table(*titles, *measured, name=titles[0], left=titles, drops=(*measured[:2:-1], titles[1]))
    for row, name, what in rows:
        numbers = (row.sqnr_db, row.created_db, row.cost_db, row.fresh_sqnr_db, row.fresh_created_db)
        stands_out = row is named or getattr(row, "diverged", False)
        table.add_row(name or "(model)", what, *map(_decibel, numbers), style="bold red" if stands_out else "")
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
            "a fresh conversion of the checkpoint diverges there as well: the fault is not in this file but in the "
            "converter or the runtime, or the precision is too low for this network"
        )
    else:
        yield (
            f"on the file's own inputs, {culprit.artifact_operator} is at {culprit.created_db:.1f} dB; in a fresh "
            f"conversion of the checkpoint, at {culprit.fresh_created_db:.1f} dB"
        )
    if culprit.also:
        yield f"the weights of {', '.join(culprit.also)} are folded into it"
    if bisection.others:
        own = "creates an error of its own" if bisection.others == 1 else "create errors of their own"
        yield f"after it, {count(bisection.others, 'operator')} more {own}"
