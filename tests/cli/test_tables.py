"""What the commands print is readable at every width: names, verdicts and numbers are whole, on a terminal or not."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text
from terminal import in_terminal

from mobilevit_sdk.cli import VERBS, main
from mobilevit_sdk.cli.common import print_line
from mobilevit_sdk.cli.tables import Table, print_pairs, wrap
from mobilevit_sdk.cli.verdicts import print_verdicts
from mobilevit_sdk.parity import THRESHOLDS, Verdict
from mobilevit_sdk.parity.metrics import compare


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(show, width: int | None) -> str:
    """What `show` prints on a terminal of this width, or into a pipe."""
    console = Console(file=io.StringIO() if width is None else Terminal(), width=width or 120, color_system=None)
    show(console)
    return console.file.getvalue()


def verdict(runtime: str, name: str = "mobilevit_xxs-executorch-int8-dynamic") -> Verdict:
    scores = np.random.default_rng(0).normal(size=(27, 10)).astype(np.float32)
    return Verdict(
        artifact=f"out/{name}/mobilevit_xxs.pte",
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


VERDICTS = [verdict("litert-cpu-builtin"), verdict("coreml-fp16-accumulate"), verdict("arm64", "x" * 70)]


@pytest.mark.parametrize("width", [60, 80, 110, 160, None])
def test_verdicts_names_and_the_worst_number_are_whole_at_every_width(width):
    text = printed(lambda console: print_verdicts(VERDICTS, console), width)
    assert "…" not in text
    words = ("passed", "litert-cpu-builtin", "coreml-fp16-accumulate", "x" * 70, " dB")
    assert all(word in text for word in words)
    assert max(len(line) for line in text.splitlines() if "x" * 70 not in line) <= (width or 200)
    assert ("e-06" in text) == (width in (None, 160, 80, 110))
    assert text.count("executorch-int8-dynamic") == (1 if width in (60, 80, 110) else 2)


def test_off_a_terminal_rows_are_lines_and_nothing_is_padded():
    text = printed(lambda console: print_verdicts(VERDICTS, console), None)
    assert len(text.splitlines()) == 1 + len(VERDICTS)
    assert not re.search(r" $", text, re.MULTILINE)


CELL = st.text("abc123.-", min_size=1, max_size=12)


@given(st.lists(st.tuples(CELL, CELL, CELL, CELL), min_size=1, max_size=5), st.integers(20, 90))
def test_a_cell_is_whole_or_its_column_is_gone(rows, width):
    def show(console):
        table = Table("name", "first", "second", "third", name="name", drops=("third", "second"))
        for row in rows:
            table.add_row(*row)
        table.print(console)

    lines = printed(show, width).splitlines()
    words = {word for line in lines for word in line.split()}
    for index, title in enumerate(("name", "first", "second", "third")):
        cells = {row[index] for row in rows}
        if title in ("name", "first") or title in words:
            assert cells <= words, title
    assert all(len(line) <= width and line == line.rstrip() for line in lines) or width < 26


def test_sentences_wrap_at_spaces_beside_what_they_explain():
    def show(console):
        table = Table("name", "works", "why", name="name", left=("works",), prose=True)
        table.add_row("short", Text("no"), "it runs on another system only, and its file is read here by a runtime")
        table.print(console)

    lines = printed(show, 60).splitlines()
    assert lines[1].startswith("short  no     it runs")
    assert lines[2].startswith(" " * 14 + lines[2].split()[0])
    assert "…" not in "".join(lines)


@given(st.lists(st.text("ab/.", min_size=1, max_size=30), min_size=1), st.integers(1, 40))
def test_no_word_is_ever_broken(words, width):
    lines = [line.plain for line in wrap(Text(" ".join(words)), width)]
    assert [word for line in lines for word in line.split()] == words
    assert all(len(line) <= width or " " not in line for line in lines)


def test_a_path_that_does_not_fit_is_whole_on_its_own_line():
    from mobilevit_sdk.cli.common import out

    path = "/home/someone/a/folder/that/is/longer/than/the/terminal/model.safetensors"
    console = type(out)(file=Terminal(), width=40, color_system=None)
    print_line(console, "error", "red", f"cannot read {path} because it is not there")
    assert console.file.getvalue() == f"error: cannot read\n{path}\nbecause it is not there\n"
    assert path in printed(lambda each: print_pairs(each, [("file", path)]), 40).splitlines()[-1]


def test_what_stands_in_a_file_cannot_act_on_the_terminal():
    text = printed(lambda console: print_pairs(console, [("labels", "cat\x1b[2J\x07\u2028dog")]), 80)
    assert text == "labels  cat\ufffd[2J\ufffd\ufffddog\n"


@pytest.mark.parametrize("columns", [60, 80])
def test_a_real_terminal_shows_whole_names_and_lines_that_fit(columns):
    text = in_terminal(columns, "list", "--family", "mobilevit")
    assert max(map(len, text.splitlines())) <= columns
    assert all(word in text for word in ("mobilevit_xxs", "69.0%", "5.58M"))


def test_the_summary_of_every_command_is_whole_in_80_columns():
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(main, ["--help"], terminal_width=80).output
    assert "..." not in shown.partition("Commands:")[2]
    assert all(f"\n  {name} " in shown for name in VERBS)
