"""Every script in examples/ runs, on a network that costs almost nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import REPOSITORY, tiny_model

from mobilevit_sdk import save_checkpoint

EXAMPLES = REPOSITORY / "examples"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """What convert_and_verify.py prints, and the folder with its artifacts."""
    pytest.importorskip("litert_torch")
    folder = tmp_path_factory.mktemp("examples")
    save_checkpoint(*tiny_model(), folder / "tiny.safetensors")
    return run(EXAMPLES / "convert_and_verify.py", "tiny.safetensors", "artifacts", cwd=folder), folder / "artifacts"


@pytest.mark.slow
def test_convert_and_verify_makes_two_files_that_pass(converted):
    printed, artifacts = converted
    assert printed.startswith("mobilevit_xxs of own, 5 classes, ")
    assert sorted(path.name for path in artifacts.iterdir()) == [f"mobilevit_xxs-tflite-fp{bits}" for bits in (16, 32)]
    assert re.findall(r"^(fp\d+) on litert-cpu: passed", printed, re.MULTILINE) == ["fp32", "fp16"]


@pytest.mark.slow
def test_check_without_sdk_finds_the_same_sqnr(converted):
    printed, artifacts = converted
    (worst,) = re.findall(r"fp32 on litert-cpu: passed, worst SQNR (\d+)", printed)
    found = run(EXAMPLES / "check_without_sdk.py", artifacts / "mobilevit_xxs-tflite-fp32", cwd=artifacts)
    assert int(re.findall(r"worst SQNR (\d+)", found)[0]) == pytest.approx(int(worst), abs=1)
    assert "over 27 cases" in found


@pytest.mark.slow
def test_parity_in_pytest_passes_on_those_files(converted):
    _, artifacts = converted
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLES / "parity_in_pytest.py")
    assert "2 passed" in run(*arguments, cwd=artifacts.parent, ARTIFACTS=str(artifacts))


def test_custom_checkpoint_is_a_file_with_labels(tmp_path):
    printed = run(EXAMPLES / "custom_checkpoint.py", tmp_path / "flowers.safetensors", cwd=tmp_path)
    assert "('daisy', 'rose', 'tulip')" in printed.splitlines()[-1]


def test_examples_are_short_and_all_are_listed_and_run():
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert [script.name for script in scripts if len(script.read_text().splitlines()) > 50] == []
    listed, tested = (EXAMPLES / "README.md").read_text(), Path(__file__).read_text()
    assert [script.name for script in scripts if script.name not in listed or script.name not in tested] == []
