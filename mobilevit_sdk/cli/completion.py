"""What the Tab key offers for the names that commands take. Nothing here imports torch or a toolchain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import entry_points

import click
from click.shell_completion import CompletionItem


def add_completion(parameter: click.Parameter) -> None:
    """Give an option or argument that takes text the completion that belongs to its name, by the tables at the end."""
    find = next((_NAMES[name] for name in (*parameter.opts, parameter.name) if name in _NAMES), None)
    takes_file = parameter.name in _FILES

    def complete(context: click.Context, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")  # of a,b,c the last is completed
        names = find() if find else ()
        found = [CompletionItem(before + comma + name) for name in names if name.startswith(last)]
        return [CompletionItem(incomplete, type="file"), *found] if takes_file else found

    if isinstance(parameter.type, click.types.StringParamType) and (find or takes_file):
        parameter.shell_complete = complete  # type: ignore[assignment, method-assign]


def _models() -> Iterable[str]:
    from mobilevit_sdk.models.catalog import catalog

    return [entry.model for entry in catalog()]


def _families() -> Iterable[str]:
    from mobilevit_sdk.models.catalog import catalog

    return dict.fromkeys(entry.family for entry in catalog())


def _formats() -> Iterable[str]:
    return sorted(point.name for point in entry_points(group="mobilevit_sdk.converters"))


def _precisions() -> Iterable[str]:
    from mobilevit_sdk.formats.quantization import PRECISIONS

    return PRECISIONS


def _backends() -> Iterable[str]:
    from mobilevit_sdk.formats.converter import converters

    return dict.fromkeys(backend for converter in converters().values() for backend in converter.backends)


def _runtimes() -> Iterable[str]:
    from mobilevit_sdk.formats.inventory import all_converters

    return sorted({runtime.name for converter in all_converters() for runtime in converter.runtimes})


def _requirements() -> Iterable[str]:
    from mobilevit_sdk.formats.inventory import requirements

    return sorted(requirements())


# By option, or by an argument's name.
_NAMES: dict[str | None, Callable[[], Iterable[str]]] = {
    "--to": _formats,
    "--precision": _precisions,
    "--backend": _backends,
    "--model": _models,
    "--family": _families,
    "--runtime": _runtimes,
    "--install": _requirements,
    "source": _models,
}
_FILES = ("source", "checkpoint", "target", "teachers", "against")  # where a file may be given
