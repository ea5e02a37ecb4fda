"""The command line. One file per verb; a verb imports what it needs only when it runs, so that `--help` is fast."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from mobilevit_sdk.errors import RequestError, suggest

# In the order of the help page. The module is mobilevit_sdk.cli.<verb>, with `_` where the verb is a Python name.
VERBS = {
    "list": "list_",
    "convert": "convert",
    "verify": "verify",
    "compare": "compare",
    "predict": "predict",
    "phone": "phone",
    "bisect": "bisect",
    "inspect": "inspect_",
    "quantize": "quantize",
    "export": "export",
    "card": "card",
    "push": "push",
    "bench": "bench",
    "prune": "prune",
    "train": "train",
    "label": "label",
    "sweep": "sweep",
    "synthesize": "synthesize",
    "eval": "eval_",
    "apps": "apps",
    "doctor": "doctor",
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"mobilevit_sdk.cli.{VERBS[cmd_name]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and args[0] not in VERBS and not ctx.resilient_parsing:
            raise click.UsageError(f"no such command {args[0]!r}; {suggest(args[0], VERBS)}", ctx)
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Run a command and exit with its code; click's own errors end as those of every command."""
        from mobilevit_sdk.cli.streams import open_standard_streams

        open_standard_streams()
        # OpenMP reads it when torch is imported. Threads that spin while they wait for one another take several times
        # the CPU time and the time as soon as anything else runs on the machine.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if "LOCAL_RANK" in os.environ:  # of torchrun: torch warns in every process of what the training means to do
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        as_json = "--json" in (sys.argv[1:] if args is None else args)
        try:
            code = super().main(args, prog_name, **{**extra, "standalone_mode": False}) or 0
        except SystemExit as end:  # of a command that ran
            code = end.code
        except (click.ClickException, click.Abort, RequestError) as error:
            code = _report(error, as_json)
        try:
            sys.stdout.flush()
        except RequestError as error:
            code = _report(error, as_json)
        sys.exit(code)


def _report(error: Exception, as_json: bool) -> int:
    from mobilevit_sdk.cli.common import report_error

    if isinstance(error, click.Abort):
        return report_error("interrupted", 130, as_json)
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # of click 8.2 and later
        click.echo(str(error), err=True)
        return 2
    return report_error(_usage_error(error) if isinstance(error, click.UsageError) else str(error), 2, as_json)


def _usage_error(error: click.UsageError) -> str:
    """click's error in the words and the one line of ours."""
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        return f"no such option {error.option_name}; did you mean {' or '.join(error.possibilities)}?"
    message = error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    return f"{message}; see {error.ctx.command_path} --help" if error.ctx and ";" not in message else message


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mobilevit-sdk")
def main() -> None:
    """From a training checkpoint to files that run on phones, with proof."""
