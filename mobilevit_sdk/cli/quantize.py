"""`mobilevit quantize`: what each block loses in few bits, and a recipe that keeps the accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import log, out, print_json, print_line, print_notes, verb
from mobilevit_sdk.cli.conversion_options import tasks_option
from mobilevit_sdk.cli.data_options import OpenImages, data_options
from mobilevit_sdk.cli.display import Display
from mobilevit_sdk.cli.preparation import preparation_options
from mobilevit_sdk.text import percent

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.preparation import Preparation
    from mobilevit_sdk.quantization.search import Goal, SearchResult
    from mobilevit_sdk.quantization.sensitivity import Point

PATH = click.Path(path_type=Path)
SHARE = click.FloatRange(0, 1)


@verb("quantize", "Which blocks lose accuracy in few bits; a recipe.")
@click.argument("checkpoint", required=False)
@click.option(
    "--calibration",
    type=PATH,
    metavar="PATH",
    help="100 to 500 images: a folder or a Parquet file; with labels, accuracy decides.  [default: synthesized ones]",
)
@click.option("--precision", default="int8", show_default=True, metavar="PRECISION", help="What convert will be given.")
@click.option("--search", is_flag=True, help="Keep the worst blocks in floating point until the goal holds.")
@click.option("--top1-drop", type=float, default=0.5, show_default=True, metavar="POINTS", help="Goal, with labels.")
@click.option("--ap-drop", type=float, default=2.0, show_default=True, metavar="POINTS", help="The same of a detector.")
@click.option("--agreement", type=SHARE, default=0.98, show_default=True, metavar="SHARE", help="Goal without labels.")
@click.option(
    "--size", type=SHARE, default=0.5, show_default=True, metavar="SHARE", help="Budget: weights over float32 ones."
)
@tasks_option
@click.option("--recipe", "recipe_file", type=PATH, metavar="FILE", help="Begin with this recipe.")
@click.option("--out", "folder", type=PATH, metavar="DIR", default=Path("quantized"), show_default=True)
@preparation_options()
@data_options()
def command(
    *,
    checkpoint: str | None,
    calibration: Path | None,
    precision: str,
    search: bool,
    top1_drop: float,
    ap_drop: float,
    agreement: float,
    size: float,
    tasks: tuple[Path, ...],
    recipe_file: Path | None,
    folder: Path,
    preparation: Preparation,
    open_images: OpenImages,
    as_json: bool,
) -> int:
    """Measure what each block of a network loses in few bits, and find a recipe that keeps its accuracy.

    CHECKPOINT is a file or hf-hub:org/name, by default the one that ships with the package. The folder --out receives
    recipe.json, for `mobilevit convert --recipe`, sensitivity.json and sensitivity.png. Exit code 1: nothing within
    --size reaches the goal; the recipe is then the most accurate one. What convert would reject reaches no goal. With
    --task, every output is judged, and the worst one decides.
    """
    from mobilevit_sdk.cli.display import import_torch

    import_torch(log)

    from mobilevit_sdk.checkpoints.source import open_source
    from mobilevit_sdk.data.calibration import MAX_IMAGES
    from mobilevit_sdk.formats.quantization import read_recipe
    from mobilevit_sdk.parity import find_config, read_thresholds
    from mobilevit_sdk.progress import Step
    from mobilevit_sdk.quantization.search import Goal, PointFound
    from mobilevit_sdk.quantization.search_recipe import quantize
    from mobilevit_sdk.tasks.classes import class_order_notes

    recipe = read_recipe(recipe_file) if recipe_file else None
    thresholds = read_thresholds(find_config(Path.cwd()))
    goal = Goal(top1_drop=top1_drop, ap_drop=ap_drop, agreement=agreement, size=size)
    images = open_images(calibration, limit=2 * MAX_IMAGES)
    source = open_source(checkpoint, preparation=preparation, tasks=tasks)
    print_notes((*source.notes, *(class_order_notes(images, source.spec) if images else ())))
    with Display(log) as display:

        def show(step: Step) -> None:
            if isinstance(step, PointFound):
                display.line(_line(step.point))
            else:
                display(step)

        result = quantize(
            source,
            precision=precision,
            calibration=images,
            recipe=recipe,
            goal=goal,
            search=search,
            out=folder,
            thresholds=thresholds,
            progress=show,
        )
    if as_json:
        import msgspec

        print_json({"model": source.spec.model, "out": str(folder), **msgspec.to_builtins(result)})
    else:
        _print(result, goal, folder)
    return 1 if search and result.chosen is None else 0


def _line(point: Point) -> str:
    from msgspec import UNSET

    kept = len(point.float_modules)
    blocks = "block" if kept == 1 else "blocks"
    words = f"{kept:>3} {blocks} in floating point: size {point.size:.1%}, same class {percent(point.agreement)}"
    words += f", SQNR {point.overall_sqnr_db:.1f} dB"
    if point.top1_drop is not None:
        words += f", top-1 {point.top1:.2%} ({0 - point.top1_drop:+.2f})"
    if point.ap_drop is not UNSET:
        words += f", AP {point.ap:.2%} ({0 - point.ap_drop:+.2f})"
    return words


def _print_expected(result: SearchResult, goal: Goal) -> None:
    """What `convert` will say of the recipe, and how finely so few images can tell."""
    expected, images = result.expected, result.images
    if expected.rejections:
        reasons = "; ".join(expected.rejections)
        print_line(out, "convert would reject", "bold red", f"{result.precision} with this recipe: {reasons}")
    else:
        print_line(out, "convert would accept", "green", f"{result.precision} with this recipe")
    told = f"{images} images judged, one of them is {100 / images:.2g} points"
    if expected.top1_drop is not None and not goal.resolves_top1(images):
        told += (
            f": too few to tell {goal.top1_drop:g} points of top-1, so the same class for {percent(goal.agreement)} of "
            f"them decides, and SQNR of {goal.sqnr_db:g} dB where that is short by less than one"
        )
    print_line(out, "note", "yellow", told)


def _print(result: SearchResult, goal: Goal, folder: Path) -> None:
    from mobilevit_sdk.cli.tables import Table

    first = "block, worst first"
    titles = (first, "layers", "float bytes", "SQNR", "same class", "in float")
    table = Table(*titles, name=first, drops=("layers", "float bytes"))
    kept = set(result.recipe.float_modules)
    for loss in result.losses:
        table.add_row(
            loss.block,
            str(loss.layers),
            f"{loss.bytes:,}",
            f"{loss.sqnr_db:.1f} dB",
            percent(loss.agreement),
            "yes" if loss.block in kept else "",
        )
    table.print(out)
    if result.chosen:
        out.print(f"\n[green]reached[/] {_line(result.chosen).strip()}")
    elif result.points:
        out.print(f"\n[bold red]not reached[/] within {goal.size:.0%} of the size; the best is in the recipe")
    _print_expected(result, goal)
    out.print(f"\nin {folder}: recipe.json, sensitivity.json, sensitivity.png", markup=False)
