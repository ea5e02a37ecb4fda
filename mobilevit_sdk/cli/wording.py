"""Messages of the library in the words of the command line.

The library's messages name parameters as Python has them, between backticks: "give another `out`", "give
`random_weights=SEED`". A command's user knows them as `--out` and `--random-weights SEED`.
"""

from __future__ import annotations

import re

import click

_PARAMETER = re.compile(r"`(\w+)(?:=([^`]*))?`")


def in_options(message: str) -> str:
    """The message with the options of the command that runs; parameters that it does not have stay as they are."""
    context = click.get_current_context(silent=True)
    if context is None:
        return message
    options: dict[str, str] = {}
    for parameter in context.command.params:
        for option in parameter.opts:
            name = option if option.startswith("--") else parameter.make_metavar(context)
            options |= {str(parameter.name): name, option.lstrip("-").replace("-", "_"): name}

    def in_option(found: re.Match[str]) -> str:
        name, value = found.groups()
        return " ".join(filter(None, (options[name], value))) if name in options else found.group()

    return _PARAMETER.sub(in_option, message)
