"""`mobilevit sweep`: trainings with different recipes, side by side."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilevit_sdk.cli.common import log, out, print_json, print_result, verb
from mobilevit_sdk.cli.data_options import DATA_HELP, DataSource
from mobilevit_sdk.cli.display import Display
from mobilevit_sdk.cli.preparation import ImageSize
from mobilevit_sdk.cli.tables import Table
from mobilevit_sdk.errors import RequestError

if TYPE_CHECKING:
    from mobilevit_sdk.files import Address

SHOWN = 20  # trials


class _Param(click.ParamType):
    name = "KEY=VALUES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, equals, text = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r} is not a name and its values, such as learning_rate=1e-4,1e-3", param, ctx)
        return name.strip(), text


@verb("sweep", "Train with different recipes side by side, on Ray Tune.")
@click.argument("recipe_file", metavar="[RECIPE]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--param",
    "params",
    type=_Param(),
    multiple=True,
    required=True,
    metavar="KEY=VALUES",
    help="A field of the recipe and what to try: learning_rate=1e-4,1e-3 or 'weight_decay=log(0.01, 0.2)', "
    "uniform(LOW, HIGH), int(LOW, HIGH). May be given again.",
)
@click.option("--draws", type=click.IntRange(1), default=1, show_default=True, help="Of ranges, for each combination.")
@click.option("--model", metavar="NAME", help="Train this model from scratch.  [default: mobilevit_xxs]")
@click.option("--checkpoint", metavar="FILE", help="Fine-tune this checkpoint instead, or hf-hub:org/name.")
@click.option("--teacher", metavar="FILE", help="Distill from this checkpoint, or hf-hub:org/name.")
@click.option("--data", type=DataSource(), metavar="PATH", required=True, help=DATA_HELP)
@click.option("--test-data", type=DataSource(), metavar="PATH", help="Images that choose: a validation split.")
@click.option(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Instead of --test-data: hold out this share of each class of --data.",
)
@click.option("--out", "folder", type=click.Path(path_type=Path), metavar="DIR", required=True)
@click.option("--image-size", type=ImageSize(), help="As in `mobilevit train`.")
@click.option("--epochs", type=int, metavar="N", help="Of each trial.  [default: the recipe's]")
@click.option("--early-stopping", is_flag=True, help="End trials that are behind (ASHA).")
@click.option("--cpus", type=click.IntRange(1), default=1, show_default=True, help="Threads of a trial.")
@click.option("--gpus", type=click.FloatRange(0), default=0.0, show_default=True, help="GPUs of a trial, or a share.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws.")
@click.option("--address", metavar="ADDRESS", help="Of a Ray cluster.  [default: this machine alone]")
def command(
    *,
    recipe_file: Path | None,
    params: tuple[tuple[str, str], ...],
    draws: int,
    model: str | None,
    checkpoint: str | None,
    teacher: str | None,
    data: Path | Address,
    test_data: Path | Address | None,
    test_share: float | None,
    folder: Path,
    image_size: tuple[int, int] | None,
    epochs: int | None,
    early_stopping: bool,
    cpus: int,
    gpus: float,
    seed: int,
    address: str | None,
    as_json: bool,
) -> None:
    """Train with different values of a recipe, side by side on Ray Tune, and find the best.

    Every combination of listed values is a trial; ranges are drawn from, --draws times for each. The folder --out
    receives results.json, sweep.png, recipe.json of the best trial and the trainings themselves. After an interruption
    the same command resumes: complete trials are not trained again.

    The images that measure the trials choose among them, so their top-1 flatters the best one: publish what other
    images say.
    """
    if (test_data is None) == (test_share is None):
        raise RequestError("trials are compared on --test-data, or on a --test-share of --data: give one of them")
    if len(dict(params)) < len(params):
        raise RequestError("a parameter is given twice: list its values behind one --param")
    from mobilevit_sdk.recipe import Recipe, make_recipe
    from mobilevit_sdk.training.search_space import parse_values
    from mobilevit_sdk.training.sweeps import sweep

    space = {name: parse_values(text) for name, text in params}
    recipe = make_recipe(recipe_file, {"epochs": epochs}, Recipe())
    given = {"model": model, "checkpoint": checkpoint, "teacher": teacher, "image_size": image_size}
    started = time.monotonic()
    with Display(log) as display:
        found = sweep(
            data,
            test_data,
            folder,
            space,
            recipe=recipe,
            draws=draws,
            seed=seed,
            early_stopping=early_stopping,
            cpus=cpus,
            gpus=gpus,
            address=address,
            progress=display,
            test_share=test_share,
            **{name: value for name, value in given.items() if value is not None},
        )
    if as_json:
        print_json(
            {
                "trials": [asdict(trial) for trial in found.trials],
                "recipe": str(found.path),
                "seconds": round(time.monotonic() - started, 1),
            }
        )
        return
    decides = next(iter(found.best.quality))
    table = Table("trial", decides, "epochs", *space, name="trial")
    for trial in found.trials[:SHOWN]:
        share = f"{trial.quality[decides]:.2%}" if trial.quality else "failed"
        table.add_row(f"{trial.number:04}", share, str(trial.epochs), *(str(trial.values[name]) for name in space))
    table.print(out)
    if len(found.trials) > SHOWN:
        print_result(f"and {len(found.trials) - SHOWN:,} more, in {folder / 'results.json'}")
    for trial in found.trials:
        if trial.problem:
            print_result(f"trial {trial.number:04}: {trial.problem}")
    print_result(f"{found.path}: the recipe of trial {found.best.number:04}; sweep.png beside it shows all of them")
