"""`mobilevit doctor`: what this machine can convert and run."""

from __future__ import annotations

from mobilevit_sdk.cli.common import out, print_json, verb


@verb("doctor")
def command(as_json: bool) -> None:
    """Show which toolchains and runtimes work here, and what to do about those that do not."""
    import platform
    from importlib.metadata import version

    from rich.table import Table

    from mobilevit_sdk.converter import converters, label

    system = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in ("mobilevit-sdk", "torch", "numpy")},
    }
    rows = [
        {"kind": kind, "name": name, "format": converter.format, "version": found.version, "reason": found.reason}
        for default in converters().values()
        for converter in dict.fromkeys((default, *default.backends.values()))
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
