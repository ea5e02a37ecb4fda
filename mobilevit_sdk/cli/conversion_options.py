"""Options that say which files are made of a checkpoint, the same in every command that makes some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mobilevit_sdk.cli.common import split_list

F = TypeVar("F", bound=Callable[..., Any])

tasks_option = click.option(
    "--task",
    "tasks",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Answer this task, too: a file that mobilevit train --base wrote on the checkpoint. May be given again.",
)


def conversion_options(*, precisions: str, calibration: str = "") -> Callable[[F], F]:
    """Decorator that adds --to, --precision, --calibration and --recipe.

    Their values are `formats`, `precisions`, `calibration` and `recipe_file`. In the help, `precisions` says which are
    made by default, and `calibration` more of the images.
    """
    options = (
        click.option(
            "--to",
            "formats",
            callback=split_list,
            metavar="FORMATS",
            help="Of coreml, coreai, tflite, executorch, onnx; all that are installed by default.",
        ),
        click.option(
            "--precision",
            "precisions",
            callback=split_list,
            metavar="PRECISIONS",
            help=f"Of fp32, fp16, int8, int8-dynamic, int8-weight, int4-weight; {precisions} by default.",
        ),
        click.option(
            "--calibration",
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="100 to 500 images for integer precisions: a folder or a Parquet file"
            f"{calibration}.  [default: synthesized ones]",
        ),
        click.option(
            "--recipe",
            "recipe_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="The recipe that mobilevit quantize wrote.",
        ),
    )

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
