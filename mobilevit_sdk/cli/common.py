"""What all verbs share: `--json`, `--debug`, errors in one line, and where output goes."""

from __future__ import annotations

import functools
import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from mobilevit_sdk.arguments import names
from mobilevit_sdk.cli.completion import add_completion
from mobilevit_sdk.cli.tables import terminal_width, wrap
from mobilevit_sdk.cli.wording import in_options
from mobilevit_sdk.errors import MobileViTError, RequestError
from mobilevit_sdk.files import full_disk
from mobilevit_sdk.processes.launched import rank, world_size
from mobilevit_sdk.text import printable

EQUAL_ERROR_SECONDS = 3.0


class _Console(Console):
    """Text wraps at spaces on a terminal, so that no path is broken, and nowhere else."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, but for the wrapping of text."""
        width = terminal_width(self)
        if width is not None and len(objects) == 1 and isinstance(objects[0], str | Text):
            text = objects[0]
            text = self.render_str(text, markup=options.get("markup")) if isinstance(text, str) else text
            objects = (Text("\n").join(wrap(text, width)),)
        super().print(*objects, **{"soft_wrap": True, **options})


# Standard output is for results only; progress, logs and errors go to standard error.
out = _Console(highlight=False, emoji=False)
log = _Console(stderr=True, highlight=False, emoji=False)


def verb(name: str, summary: str, *, processes: bool = False) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a command of a function that takes `as_json` beside its own options and returns its exit code (None is 0).

    `summary` is its line in `mobilevit --help`, which fits 80 columns. Several `processes` may share the work of some
    commands; then the first alone prints, and the others nothing but their own errors.

    Adds `--json` and `--debug`. An error ends in one line on standard error and the exit code of the contract; with
    `--json`, standard output then holds {"error": ..., "exit_code": ...}.
    """

    def decorate(function: Callable[..., int | None]) -> click.Command:
        @functools.wraps(function)
        def run(*args: Any, debug: bool, as_json: bool, **kwargs: Any) -> None:
            out.quiet = log.quiet = rank() > 0
            try:
                if world_size() > 1 and not processes:
                    raise RequestError(f"`mobilevit {name}` runs in one process: start it without torchrun")
                code = function(*args, as_json=as_json, **kwargs) or 0
            except KeyboardInterrupt:
                code = report_error("interrupted", 130, as_json)
            except MobileViTError as error:
                if debug:
                    traceback.print_exc()
                code = report_error(error.text, error.exit_code, as_json)  # as it is in JSON
            except Exception as error:
                if debug:
                    traceback.print_exc()
                if (full := full_disk(error)) is not None:  # of a file that no target stands for, such as a log
                    code = report_error(
                        f"cannot write {getattr(error, 'filename', None) or 'a file'}: {full}", 2, as_json
                    )
                else:
                    words = f"internal error, please report it: {type(error).__name__}: {error} (--debug shows where)"
                    code = report_error(words, 3, as_json)
            sys.exit(code)

        command = click.command(name, short_help=summary)(run)
        command.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document on standard output."),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]
        for parameter in command.params:
            add_completion(parameter)
        return command

    return decorate


def split_list(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    """The callback of options that take a,b,c."""
    return names(value)


def print_json(document: Any) -> None:
    """Write the one JSON document of `--json` to standard output."""
    if rank() > 0:
        return
    click.echo(json.dumps(document, indent=2))


def print_result(text: str) -> None:
    """Print a line of the result."""
    out.print(text, markup=False)


def print_line(console: Console, word: str, style: str, text: str) -> None:
    """Print `word: text`, the word in `style`, as one line of what a terminal can show."""
    shown = printable(re.sub(r"\s*[\r\n]+\s*", " ", text.strip()))
    console.print(Text.assemble((word, style), f": {shown}"))


def print_notes(notes: Iterable[str]) -> None:
    """Print on standard error how a checkpoint was changed when it was loaded."""
    for note in notes:
        print_line(log, "note", "bold", in_options(note))


def report_error(message: str, code: int, as_json: bool) -> int:
    """Print an error in one line, also as JSON if the caller wants that; returns the exit code."""
    message = in_options(message)
    if rank() > 0:  # where all have the same, the launcher ends this process as soon as the first has said it
        if code == 130:
            return code
        time.sleep(EQUAL_ERROR_SECONDS)
        log.quiet, message = False, f"rank {rank()}: {message}"
    print_line(log, "error", "bold red", message)
    if as_json:
        print_json({"error": message, "exit_code": code})
    return code
