"""What all verbs share: `--json`, `--debug`, errors in one line, and where output goes."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from mobilevit_sdk.arguments import names
from mobilevit_sdk.cli.wording import in_options
from mobilevit_sdk.errors import MobileViTError

if TYPE_CHECKING:
    from rich.table import Table

# Standard output is for results only; progress, logs and errors go to standard error.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
log = Console(stderr=True, highlight=False, soft_wrap=True)


def verb(name: str, summary: str) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a command of a function that takes `as_json` beside its own options and returns its exit code (None is 0).

    `summary` is its line in `mobilevit --help`, which fits 80 columns.

    Adds `--json` and `--debug`. An error ends in one line on standard error and the exit code of the contract; with
    `--json`, standard output then holds {"error": ..., "exit_code": ...}.
    """

    def decorate(function: Callable[..., int | None]) -> click.Command:
        @functools.wraps(function)
        def run(*args: Any, debug: bool, as_json: bool, **kwargs: Any) -> None:
            try:
                code = function(*args, as_json=as_json, **kwargs) or 0
            except KeyboardInterrupt:
                _fail("interrupted", 130, as_json)
            except MobileViTError as error:
                if debug:
                    traceback.print_exc()
                _fail(str(error), error.exit_code, as_json)
            except Exception as error:
                if debug:
                    traceback.print_exc()
                _fail(
                    f"internal error, please report it: {type(error).__name__}: {error} (--debug shows where)",
                    3,
                    as_json,
                )
            else:
                sys.exit(code)

        command = click.command(name, short_help=summary)(run)
        command.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document on standard output."),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]
        return command

    return decorate


def split_list(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    """The callback of options that take a,b,c."""
    return names(value)


def results_table(*columns: str, folds: str, left: Sequence[str] = ()) -> Table:
    """A table of numbers in which, on a narrow terminal, only the column `folds` gives way: no number is cut."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        if column == folds:
            table.add_column(column, overflow="fold", min_width=12)
        else:
            table.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    return table


def print_json(document: Any) -> None:
    """Write the one JSON document of `--json` to standard output."""
    click.echo(json.dumps(document, indent=2))


def print_notes(notes: Iterable[str]) -> None:
    """Print on standard error how a checkpoint was changed when it was loaded."""
    for note in notes:
        log.print("note: ", style="bold", end="")
        log.print(note, markup=False)


def _fail(message: str, code: int, as_json: bool) -> None:
    message = in_options(message)
    log.print("error: ", style="bold red", end="")
    log.print(" ".join(message.split()), markup=False)
    if as_json:
        print_json({"error": message, "exit_code": code})
    sys.exit(code)
