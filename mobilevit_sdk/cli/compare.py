"""`mobilevit compare`: one table for all formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import log, out, print_json, print_line, print_notes, split_list, verb
from mobilevit_sdk.cli.conversion_options import conversion_options, tasks_option
from mobilevit_sdk.cli.data_options import OpenImages, data_options
from mobilevit_sdk.cli.preparation import preparation_options

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.preparation import Preparation
    from mobilevit_sdk.comparison import Comparison, FileRow

_STYLE = {
    "passed": "green",
    "failed": "bold red",
    "rejected": "bold red",
    "error": "bold red",
    "not executed": "yellow",
    "not converted": "yellow",
}


@verb("compare", "One table for all formats: verdict, size, accuracy, latency.")
@click.argument("checkpoint", required=False)
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Folder of class folders, or Parquet file."
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", default=500, show_default=True, help="Only N images, spread evenly."
)
@tasks_option
@click.option(
    "--data-task", metavar="NAME", help="With --task: the one that --data are of.  [default: the network's own classes]"
)
@conversion_options(precisions="all", calibration=", none of them in --data")
@click.option(
    "--backend",
    "backends",
    callback=split_list,
    metavar="NAMES",
    help="Only these, of which `default` is each format's own; all by default.",
)
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("comparison"), show_default=True)
@click.option(
    "--max-drop", type=click.FloatRange(0), metavar="POINTS", help="Fail where top-1 is further below PyTorch's."
)
@click.option("--min-top1", type=click.FloatRange(0, 100), metavar="PERCENT", help="Fail where top-1 is lower.")
@click.option("--no-bench", is_flag=True, help="Do not time the files.")
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", default=1, show_default=True, help="Of each file that is timed."
)
@preparation_options(license=False)
@data_options()
def command(
    *,
    checkpoint: str | None,
    data: Path,
    limit: int,
    tasks: tuple[Path, ...],
    data_task: str | None,
    formats: list[str],
    precisions: list[str],
    backends: list[str],
    folder: Path,
    calibration: Path | None,
    recipe_file: Path | None,
    max_drop: float | None,
    min_top1: float | None,
    no_bench: bool,
    threads: int,
    preparation: Preparation,
    open_images: OpenImages,
    as_json: bool,
) -> int:
    """Make every file that a checkpoint can become, and compare them in one table.

    CHECKPOINT is a file or hf-hub:org/name, by default the one that ships with the package. Each installed format, with
    each of its backends and precisions, is converted, verified as `convert` does, evaluated on the labeled images, and
    timed where its runtime runs at this machine's own speed. A file that fails stops no other. The folder --out
    receives the artifacts, report.html, comparison.md and comparison.json; the same command again goes on where it was
    interrupted, and does nothing twice. With --task, each output of a file is verified, and the worst one decides.

    Exit 0: what ran met its thresholds and floors. 1: something missed one, or was rejected. 3: a conversion or a
    runtime failed, or what --to or --backend name ran nowhere. A file that nothing here runs has no accuracy, and no
    floor judges it.
    """
    from mobilevit_sdk.cli.display import Display, import_torch

    import_torch(log)

    import msgspec

    from mobilevit_sdk.checkpoints.source import open_source
    from mobilevit_sdk.comparison import RowFound, compare_formats
    from mobilevit_sdk.data.calibration import MAX_IMAGES
    from mobilevit_sdk.parity import find_config, read_thresholds
    from mobilevit_sdk.progress import Step

    thresholds = read_thresholds(find_config(Path.cwd()))
    subject = open_source(checkpoint, preparation=preparation, tasks=tasks)
    images = open_images(data, labeled=True, limit=limit)
    calibrating = open_images(calibration, limit=2 * MAX_IMAGES)
    with Display(log) as display:

        def show(step: Step) -> None:
            if isinstance(step, RowFound):
                display.line(_line(step.row))
            display(step)

        found = compare_formats(
            subject,
            data=images,
            out=folder,
            formats=formats,
            precisions=precisions,
            backends=backends,
            limit=limit,
            task=data_task,
            calibration=calibrating,
            recipe=recipe_file,
            max_drop=max_drop,
            min_top1=min_top1,
            timed=not no_bench,
            threads=threads,
            thresholds=thresholds,
            progress=show,
        )
    print_notes(found.notes)
    if as_json:
        print_json({**msgspec.to_builtins(found), "out": str(folder)})
    else:
        _print(found, folder)
    if found.missed:
        return 1
    named = bool(formats or backends) and any(row.status == "not executed" for row in found.rows)
    return 3 if found.broken or named else 0


def _line(row: FileRow) -> str:
    """What is known of a file as soon as it is evaluated."""
    from mobilevit_sdk.comparison.record import cells

    units = {"size": " MB", "same class": " same class", "top-1": " top-1", "SQNR": " dB", "ms": "", "seconds": " s"}
    shown = [f"{value}{units[name]}" for name, value in cells(row).items() if value and name != "ms"]
    return ", ".join([f"{row.name} {row.precision}: {row.status}", *shown])


def _print(found: Comparison, folder: Path) -> None:
    from rich.text import Text

    from mobilevit_sdk.cli.tables import Table
    from mobilevit_sdk.comparison.record import cells
    from mobilevit_sdk.text import count

    titles = ("format", "precision", "status", "MB", "same class", "top-1", "dB", "ms", "s")
    table = Table(*titles, name="format", left=("precision", "status"), drops=("s", "MB", "same class"))
    latency = "" if found.median_ms is None else f"{found.median_ms:.2f}"
    table.add_row("PyTorch", "fp32", "reference", "", "", f"{found.top1:.2%}", "", latency, "")
    for row in found.rows:
        table.add_row(row.name, row.precision, Text(row.status, _STYLE[row.status]), *cells(row).values())
    table.print(out)
    for row in found.rows:
        if row.reason:
            print_line(out, row.status, _STYLE[row.status], f"{row.name} {row.precision}: {row.reason}")
    for runtime, why in found.untimed_runtimes.items():
        print_line(out, "no ms", "bold", f"{runtime}: {why}")
    if found.calibration:
        print_line(out, "integers", "bold", f"calibrated with {found.calibration}")
    whose = f" of {found.task}" if found.task else ""
    said = f"\ntop-1{whose} on {count(found.images, 'image')} of {found.data}; dB: SQNR of the worst case"
    said += f"{', in the output that is named' if found.task else ''}; s: to convert"
    if found.machine:
        said += f"; ms: {count(found.threads, 'thread')} on {found.machine.describe()}"
    out.print(said, markup=False, style="dim")
    print_line(out, "report", "bold", str(folder / "report.html"))
