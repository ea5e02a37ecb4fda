"""What the commands print fits 80 columns: names fold, numbers are whole."""

from __future__ import annotations

import io

import numpy as np
from click.testing import CliRunner
from rich.console import Console

from mobilevit_sdk.cli import VERBS, main
from mobilevit_sdk.cli.common import results_table
from mobilevit_sdk.cli.verdicts import print_verdicts
from mobilevit_sdk.parity import THRESHOLDS, Verdict
from mobilevit_sdk.parity.metrics import compare


def verdict(runtime: str) -> Verdict:
    scores = np.random.default_rng(0).normal(size=(27, 10)).astype(np.float32)
    return Verdict(
        artifact="out/mobilevit_xxs-executorch-int8-dynamic/mobilevit_xxs.pte",
        format="tflite",
        precision="fp32",
        runtime=runtime,
        status="passed",
        agreement=compare(scores, scores + np.float32(4e-6)),
        thresholds=THRESHOLDS["fp32"],
        runtime_version="1",
        bytes=1,
        delegates=1,
        undelegated_ops={},
    )


def test_no_number_of_a_verdict_is_cut_on_a_narrow_terminal():
    for width, shows_difference in ((80, False), (120, True)):
        console = Console(file=io.StringIO(), width=width)
        print_verdicts([verdict("litert-cpu-builtin"), verdict("coreml-fp16-accumulate")], console)
        printed = console.file.getvalue()
        assert "…" not in printed
        assert all(word in printed for word in ("passed", "litert-cpu-builtin", "27", " dB", "100%"))
        assert ("e-06" in printed) == shows_difference


def test_only_the_named_column_of_a_table_folds():
    console = Console(file=io.StringIO(), width=40)
    table = results_table("name", "size", folds="name")
    table.add_row("a-name-that-is-longer-than-the-terminal-is-wide", "123,456,789 B")
    console.print(table)
    assert "123,456,789 B" in console.file.getvalue()
    assert "…" not in console.file.getvalue()


def test_the_summary_of_every_command_is_whole_in_80_columns():
    printed = CliRunner(env={"COLUMNS": "80"}).invoke(main, ["--help"], terminal_width=80).output
    assert "..." not in printed.partition("Commands:")[2]
    assert all(f"\n  {name} " in printed for name in VERBS)
