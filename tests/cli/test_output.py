"""What commands say of a real file, at several widths and in encodings that lack its characters."""

from __future__ import annotations

import re
import shlex
import shutil

import pytest
from helpers import REPOSITORY
from terminal import in_shell, in_terminal

NAME = "mobilevit_xxs-tflite-fp32-für-猫-with-a-name-that-is-longer-than-a-narrow-terminal"


@pytest.fixture(scope="module")
def folder(phone_files, tmp_path_factory):
    """Of an artifact, read only."""
    pytest.importorskip("ai_edge_litert")
    path = tmp_path_factory.mktemp("artifacts") / NAME
    shutil.copytree(phone_files.artifact("tflite", "fp32").path.parent, path)
    return path


@pytest.mark.parametrize(
    ("verb", "encoding"),
    [
        ("verify --runtime litert-cpu", "ascii"),
        ("bench --rounds 1 --threads 1", "cp1252"),
        ("inspect", "ascii"),
        ("inspect", "cp1252"),
        ("inspect", "gbk"),
    ],
)
def test_a_name_that_an_encoding_lacks_costs_no_result(verb, encoding, folder, tmp_path):
    done = in_shell(f"mobilevit {verb} {shlex.quote(str(folder))}", tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr
    assert "mobilevit_xxs-tflite-fp32-f" in done.stdout


@pytest.mark.parametrize("columns", [60, 80])
def test_verdicts_are_whole_on_a_real_terminal(columns, folder):
    shown = in_terminal(columns, "verify", str(folder), "--runtime", "litert-cpu")
    lines = [line.rstrip() for line in shown.splitlines()]
    assert NAME in lines
    assert re.fullmatch(r"  passed +litert-cpu +(27 +)?\d+\.\d dB( .*)?", lines[lines.index(NAME) + 1])


@pytest.mark.parametrize("columns", [60, 80, 110])
def test_what_a_file_holds_fits_the_terminal_and_no_word_is_broken(columns, folder):
    shown = in_terminal(columns, "inspect", str(folder))
    first, *rows = shown.splitlines()
    assert first == str(folder / "mobilevit_xxs.tflite")
    assert max(map(len, rows)) <= columns
    piped = in_shell(f"mobilevit inspect {shlex.quote(str(folder))}", folder.parent).stdout
    assert shown.split() == piped.split()
    assert not re.search(r" $", piped, re.MULTILINE)


def test_one_mechanism_lays_out_every_table():
    for path in (REPOSITORY / "mobilevit_sdk" / "cli").glob("*.py"):
        assert "rich.table" not in path.read_text(encoding="utf-8"), path
