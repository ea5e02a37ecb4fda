"""The tutorials run as they stand: each command is typed in an empty folder, and prints what the page shows.

In a `console` block, `$ ` begins a command, which goes on in the next line after a backslash; other lines are what it
prints: numbers may differ, spaces too, and `...` stands for anything. A command ends with exit code 0, but where
`$ echo $?` follows. A block with a title is a file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import REPOSITORY
from markdown_it import MarkdownIt

TUTORIALS = sorted(path for path in (REPOSITORY / "docs" / "tutorials").glob("*.md") if path.name != "index.md")
NOTEBOOK = REPOSITORY / "docs" / "tutorials" / "image-by-image.ipynb"
NEEDS = {
    "boxes": (),
    "fine-tune-and-distill": (),
    "gate-in-ci": ("litert_torch",),
    "int8-with-evidence": ("litert_torch",),
    "many-tasks": ("litert_torch",),
    "prune-by-half": ("litert_torch",),
    "three-phone-formats": ("coremltools", "litert_torch", "executorch"),
}

# With commas between thousands, as the commands print them, and the sign of a difference.
NUMBER = re.compile(r"(?:(?<=[ (])[+-])?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")


class Command(NamedTuple):
    line: str
    expected: str  # "" where the page shows nothing
    may_fail: bool


def steps(text: str) -> list[Command | tuple[str, str]]:
    """Commands, and files as name and content, in the order of the page."""
    found: list[Command | tuple[str, str]] = []
    for token in MarkdownIt("commonmark").parse(text):
        if token.type != "fence":
            continue
        if title := re.search(r'title="([^"]+)"', token.info):
            found.append((title[1], token.content))
        elif token.info == "console":
            typed = re.sub(r"\\\n *", "", token.content)
            pieces = [piece.partition("\n") for piece in re.split(r"^\$ ", typed, flags=re.M)[1:]]
            lines = [line for line, _, _ in pieces] + [""]
            for index, (line, _, output) in enumerate(pieces):
                found.append(Command(line, output, lines[index + 1] == "echo $?" or line == "echo $?"))
    return found


def is_shown(expected: str, printed: str) -> bool:
    """Whether a page's output is what was printed, but for numbers, spaces, and what `...` stands for."""

    def plain(text: str) -> str:
        return " ".join(re.sub(NUMBER, "0", text).split())

    pattern = re.escape(plain(expected)).replace(r"\ \.\.\.", r"\.\.\.").replace(r"\.\.\.\ ", r"\.\.\.")
    return re.fullmatch(pattern.replace(r"\.\.\.", ".*"), plain(printed), re.DOTALL) is not None


def run(page: str, folder: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "COLUMNS": "200"}
    code = 0
    for step in steps(page):
        if not isinstance(step, Command):
            (file := folder / step[0]).parent.mkdir(parents=True, exist_ok=True)
            file.write_text(step[1])
            continue
        if step.line == "echo $?":
            assert step.expected.strip() == str(code)
            continue
        command = ["bash", "-c", step.line]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        code = done.returncode
        assert code == 0 or step.may_fail, (step.line, done.stdout, done.stderr)
        assert is_shown(step.expected, done.stdout), (step.line, step.expected, done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.stem)
def test_every_command_runs_as_typed_and_prints_what_the_page_shows(page, tmp_path):
    for module in NEEDS[page.stem]:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    run(page.read_text(), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nbmake") is None, reason="nbmake is not installed")
@pytest.mark.skipif(find_spec("litert_torch") is None, reason="litert_torch is not installed")
def test_the_notebook_runs_in_a_new_kernel(tmp_path):
    shutil.copy(NOTEBOOK, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbmake", "--nbmake-timeout=900"]
    done = subprocess.run([*command, NOTEBOOK.name], cwd=tmp_path, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_notebook_shows_what_a_whole_run_printed():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert "display_data" in kinds
    assert set(kinds) == {"display_data", "stream"}


def test_all_tutorials_are_listed():
    index = (REPOSITORY / "docs" / "tutorials" / "index.md").read_text()
    assert {path.stem for path in TUTORIALS} == set(NEEDS)
    assert [path.name for path in [*TUTORIALS, NOTEBOOK] if f"({path.name})" not in index] == []


@pytest.mark.parametrize(
    "page",
    [
        "```console\n$ echo one\ntwo\n```",
        "```console\n$ false\n```",
        "```console\n$ true\n$ echo $?\n1\n```",
        "```console\n$ printf 'a\\nb\\n'\na\n```",
        "```console\n$ printf a \\\n    b\nb\n```",
        '```text title="a.txt"\nx\n```\n```console\n$ cat a.txt\ny\n```',
    ],
)
def test_a_page_that_shows_something_else_is_noticed(page, tmp_path):
    with pytest.raises(AssertionError):
        run(page, tmp_path)


def test_numbers_spaces_and_dots_are_what_may_differ(tmp_path):
    page = [
        "$ echo 'took  12.5 s of 3e-06'",
        "took 1 s of 4",
        "$ seq 9",
        "...",
        "5",
        "...",
        "$ false",
        "$ echo $?",
        "1",
    ]
    run("\n".join(["```console", *page, "```"]), tmp_path)


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("top-1 8.1% (+0.25 points), 1,316 images/s", True),
        ("top-1 87.5% (-1 points), 255 images/s", True),
        ("top-1 87.5% (-1 points), 1,255,316.5 images/s", True),
        ("top-1 87.5% (-1 points), 1, 2 images/s", False),
        ("top-1 87.5% (-1 points), many images/s", False),
    ],
)
def test_a_number_may_have_commas_and_a_sign(printed, same):
    assert is_shown("top-1 87.50% (-0.25 points),   255 images/s", printed) is same
