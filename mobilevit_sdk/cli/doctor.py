"""`mobilevit doctor`: what this machine can convert to and run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mobilevit_sdk.cli.common import log, out, print_json, verb

if TYPE_CHECKING:
    from mobilevit_sdk.formats.converter import Converter


@verb("doctor")
@click.option("--install", "requirement", metavar="NAME", help="Download what a runtime needs into your cache folder.")
def command(requirement: str | None, as_json: bool) -> None:
    """Show which toolchains and runtimes work here, and how to get those that do not."""
    if requirement is not None:
        _install(requirement, as_json)
        return
    _show(as_json)


def _converters() -> list[Converter]:
    """The converters of every format and backend, the default of a format first."""
    from mobilevit_sdk.formats.converter import converters

    defaults = converters().values()
    return list(dict.fromkeys(each for default in defaults for each in (default, *default.backends.values())))


def _install(requirement: str, as_json: bool) -> None:
    from mobilevit_sdk.errors import RequestError, suggest
    from mobilevit_sdk.formats.runtime import InstallableRuntime

    having = [
        (converter, runtime)
        for converter in _converters()
        for runtime in converter.runtimes
        if isinstance(runtime, InstallableRuntime)
    ]
    names = {runtime.requirement for _, runtime in having}
    if requirement not in names:
        raise RequestError(f"no runtime needs {requirement!r}; {suggest(requirement, names)}")
    wanted = [(converter, runtime) for converter, runtime in having if runtime.requirement == requirement]
    # Several formats may share it; a format whose toolchain is not installed has no use for it.
    rows = []
    for converter, runtime in [pair for pair in wanted if pair[0].availability()] or wanted:
        folder = runtime.install(lambda line: log.print(line, markup=False))
        found = runtime.availability()
        row = {"name": runtime.name, "format": converter.format, "version": found.version, "reason": found.reason}
        rows.append({**row, "path": str(folder)})
    if as_json:
        print_json({"installed": requirement, "runtimes": rows})
        return
    for row in rows:
        out.print(f"{row['name']} ({row['format']}): {row['version'] or row['reason']}", markup=False)


def _show(as_json: bool) -> None:
    import platform
    from importlib.metadata import version

    from rich.table import Table

    from mobilevit_sdk.formats.converter import label

    system = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in ("mobilevit-sdk", "torch", "numpy")},
    }
    rows = [
        {"kind": kind, "name": name, "format": converter.format, "version": found.version, "reason": found.reason}
        for converter in _converters()
        for kind, name, found in (
            ("toolchain", label(converter), converter.availability()),
            *(("runtime", runtime.name, runtime.availability()) for runtime in converter.runtimes),
        )
    ]
    rows = [row for i, row in enumerate(rows) if row not in rows[:i]]  # backends may share a runtime
    if as_json:
        print_json({"system": system, "tools": rows})
        return
    out.print(", ".join(f"{name} {value}" for name, value in system.items()), style="dim")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "kind", "name", "format", "version, or what is missing"):
        table.add_column(column, no_wrap=column != "version, or what is missing")
    for row in rows:
        mark = "[green]yes[/]" if row["version"] else "[yellow]no[/]"
        table.add_row(mark, row["kind"], row["name"], row["format"], row["version"] or row["reason"])
    out.print(table)
