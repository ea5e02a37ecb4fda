"""`mobilevit phone`: run artifacts on a phone, and compare its answers with PyTorch's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobilevit_sdk.cli.common import log, out, print_json, print_line, report_error, verb
from mobilevit_sdk.errors import RequestError

if TYPE_CHECKING:
    from mobilevit_sdk.apps.phone import PhoneResult

_FILE = click.Path(path_type=Path)


@verb("phone", "Run phone files on a phone, in its browser or the demo app.")
@click.argument("artifacts", metavar="ARTIFACT_OR_DIR...", nargs=-1, required=True, type=_FILE)
@click.option("--out", default="device-reports", show_default=True, type=_FILE, help="Keep the phones' reports here.")
@click.option("--keep", is_flag=True, help="Go on for more phones, until Ctrl-C or --timeout.")
@click.option(
    "--timeout",
    default=3600.0,
    metavar="SECONDS",
    help="End after this long.",
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
)
@click.option("--config", type=_FILE, help="Thresholds; the project's pyproject.toml by default.")
@click.option("--host", metavar="ADDRESS", help="This machine's IP address; that of its local network by default.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Listen on this port, not on any free one.")
@click.option("--http", is_flag=True, help="No certificate, no warning; no WebGPU, live camera or threads either.")
@click.option("--adb", "by_usb", is_flag=True, help="Use the Android phone that is attached by USB.")
@click.option("--serial", help="With --adb: the phone with this serial number.")
@click.option("--adb-path", type=_FILE, metavar="FILE", help="With --adb: the program, if it is not found.")
@click.option("--app", "in_app", is_flag=True, help="With --adb: use the demo app on the phone, not its browser.")
@click.option("--apk", type=_FILE, metavar="FILE", help="With --adb: install this demo app, and use it.")
@click.option("--export", type=_FILE, metavar="DIR", help="Write the page as static files instead of serving it.")
def command(artifacts: tuple[Path, ...], config: Path | None, as_json: bool, **options: Any) -> int:
    """Run artifacts on a phone and compare its answers with PyTorch's, by the thresholds of `mobilevit verify`.

    The phone opens the address that is shown, by its QR code, and nothing is installed on it. It classifies photos and
    its camera's picture; its report comes back here. Phones must be on this machine's network, or attached by USB
    (--adb). Exit codes are those of `mobilevit verify`; 3 also when no phone reported in time.
    """
    _check(options)
    if options["export"]:
        _export(artifacts, options["export"], as_json)
        return 0
    from mobilevit_sdk.cli.verdicts import print_outcome
    from mobilevit_sdk.cli.verify import exit_code
    from mobilevit_sdk.parity import find_config, read_thresholds

    config = config or find_config(Path.cwd())
    result = _run(artifacts, options, thresholds=read_thresholds(config))
    if as_json:
        print_json(result.to_json())
    else:
        if log.is_terminal:
            log.print()
        if config:
            log.print(f"thresholds: {config}", markup=False)
        print_outcome(result.outcome, out)
    if result.error:
        return report_error(str(result.error), result.error.exit_code, as_json=False)  # its document holds it already
    return 1 if result.outcome.missed else exit_code(result.outcome.verdicts)


def _check(options: dict[str, Any]) -> None:
    """Refuse options that mean nothing together."""
    context = click.get_current_context()
    given = {name for name in options if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}

    def refuse(names: set[str], because: str) -> None:
        for name in sorted(names & given):
            option = next(each.opts[0] for each in context.command.params if each.name == name)
            raise RequestError(f"{option} {because}")

    if options["export"]:
        refuse(set(options) - {"export"}, "has no meaning with --export")
    if not options["by_usb"]:
        refuse({"serial", "adb_path", "in_app", "apk"}, "needs --adb")
    else:
        refuse({"host", "http"}, "has no meaning with --adb: the phone reaches this machine by USB")
    if options["in_app"] or options["apk"]:
        refuse({"port", "keep"}, "has no meaning with the app: nothing is served")


def _run(artifacts: tuple[Path, ...], options: dict[str, Any], **shared: Any) -> PhoneResult:
    shared |= {"out": options["out"], "timeout": options["timeout"], "say": _say}
    if not options["by_usb"]:
        from mobilevit_sdk.apps.phone import verify_on_phones

        return verify_on_phones(
            artifacts,
            host=options["host"],
            port=options["port"],
            https=not options["http"],
            keep=options["keep"],
            on_address=lambda address: _show_address(address, keep=options["keep"]),
            **shared,
        )
    from mobilevit_sdk.apps.adb import attached_phone, find_adb
    from mobilevit_sdk.apps.android import verify_page_over_usb, verify_with_app

    adb = attached_phone(find_adb(options["adb_path"]), options["serial"])
    if options["in_app"] or options["apk"]:
        return verify_with_app(artifacts, adb, apk=options["apk"], **shared)
    return verify_page_over_usb(artifacts, adb, port=options["port"], keep=options["keep"], **shared)


def _export(artifacts: tuple[Path, ...], folder: Path, as_json: bool) -> None:
    from mobilevit_sdk.apps.eligibility import artifact_name
    from mobilevit_sdk.apps.phone import export_web_app

    served = [artifact_name(artifact) for artifact in export_web_app(artifacts, folder)]
    if as_json:
        print_json({"path": str(folder), "artifacts": served})
    else:
        out.print(f"{folder}: the page with {', '.join(served)}; its README says how to serve it", markup=False)


def _say(line: str) -> None:
    print_line(log, "phone", "bold", line)


def _show_address(address: str, *, keep: bool) -> None:
    """The address as text and, on a terminal, as a QR code, in black and white whatever the terminal's colors are."""
    from rich.text import Text

    from mobilevit_sdk.apps.qr_code import qr_rows

    if log.is_terminal:
        for row in qr_rows(address):
            log.print(Text(row, "#ffffff on #000000"))
    log.print(Text.assemble("Scan the code, or open  ", (address, "bold")) if log.is_terminal else Text(address))
    if address.startswith("https:"):
        log.print(
            "The phone's browser warns once, because this certificate was made just now: choose Advanced, then Proceed "
            "(Safari: Show Details, visit this website).",
            markup=False,
        )
    else:
        log.print("Without https, the phone runs WebAssembly on one thread: no WebGPU, no live camera.", markup=False)
    log.print(f"Waiting for {'phones' if keep else 'its report'}; Ctrl-C ends.", style="dim")
