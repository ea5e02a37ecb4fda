"""`mobilevit doctor`: what this machine can convert to and run."""

from __future__ import annotations

import click

from mobilevit_sdk.cli.common import log, out, print_json, verb


@verb("doctor", "What converts and runs here, and what is missing.")
@click.option("--install", "requirement", metavar="NAME", help="Download what a runtime needs into your cache folder.")
def command(requirement: str | None, as_json: bool) -> None:
    """Show which toolchains and runtimes work here, and how to get those that do not."""
    if requirement is not None:
        _install(requirement, as_json)
        return
    _show(as_json)


def _install(requirement: str, as_json: bool) -> None:
    import msgspec

    from mobilevit_sdk.formats.inventory import install

    runtimes = install(requirement, lambda line: log.print(line, markup=False))
    if as_json:
        print_json({"installed": requirement, "runtimes": msgspec.to_builtins(runtimes)})
        return
    for runtime in runtimes:
        out.print(f"{runtime.name} ({runtime.format}): {runtime.version or runtime.reason}", markup=False)


def _show(as_json: bool) -> None:
    import platform
    from importlib.metadata import version

    import msgspec
    from rich.text import Text

    from mobilevit_sdk.cli.tables import Table
    from mobilevit_sdk.formats.inventory import list_tools

    system = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in ("mobilevit-sdk", "torch", "numpy")},
    }
    tools = list_tools()
    if as_json:
        print_json({"system": system, "tools": msgspec.to_builtins(tools)})
        return
    out.print(", ".join(f"{name} {value}" for name, value in system.items()), style="dim")
    titles = ("", "kind", "name", "format", "version, or what is missing")
    table = Table(*titles, name="name", left=titles, drops=("kind",), prose=True)
    for tool in tools:
        mark = Text("yes", "green") if tool.version else Text("no", "yellow")
        table.add_row(mark, tool.kind, tool.name, tool.made_for, tool.version or tool.reason or "")
    table.print(out)
