"""The command line. One file per verb; a verb imports what it needs only when it runs, so that `--help` is fast."""

from __future__ import annotations

import importlib

import click

# In the order of the help page. The module is mobilevit_sdk.cli.<verb>, with `_` where the verb is a Python name.
VERBS = {
    "list": "list_",
    "convert": "convert",
    "verify": "verify",
    "bisect": "bisect",
    "inspect": "inspect_",
    "quantize": "quantize",
    "export": "export",
    "bench": "bench",
    "prune": "prune",
    "train": "train",
    "synthesize": "synthesize",
    "eval": "eval_",
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


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mobilevit-sdk")
def main() -> None:
    """From a training checkpoint to files that run on phones, with proof."""
