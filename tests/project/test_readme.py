"""The README's first commands and its Python run as they stand there, one after the other, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import REPOSITORY

SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (REPOSITORY / "README.md").read_text(), re.M | re.S))


def first_block(section: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", SECTIONS[section], re.S)
    assert found, (section, language)
    return found[1]


def run(*command: str, folder: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.slow
def test_the_commands_for_the_model_that_ships_and_the_python_run_as_typed(tmp_path):
    lines = [line.removeprefix("$ ") for line in first_block("From the shell", "console").splitlines()]
    assert [shlex.split(line)[1] for line in lines] == ["convert", "verify", "bisect", "prune", "convert"]
    for line in lines:
        run(*shlex.split(line, comments=True), folder=tmp_path)
    assert {path.name for path in (tmp_path / "report").iterdir()} >= {"report.html", "junit.xml", "verdicts.json"}
    printed = run(sys.executable, "-c", first_block("From Python", "python"), folder=tmp_path)
    assert re.search(r"mobilevit_xxs-tflite-fp16\S* litert-cpu passed \d\d", printed)
