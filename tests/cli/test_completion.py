"""What the Tab key offers: models, formats, precisions, runtimes, and files where a checkpoint is meant; at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete
from terminal import PROGRAM

from mobilevit_sdk.cli import VERBS, main
from mobilevit_sdk.formats.converter import converters
from mobilevit_sdk.formats.quantization import PRECISIONS
from mobilevit_sdk.models.catalog import catalog


def offered(*words):
    *before, incomplete = words
    found = ShellComplete(main, {}, "mobilevit", "_MOBILEVIT_COMPLETE").get_completions(before, incomplete)
    return [item.value if item.type == "plain" else f"<{item.type}>" for item in found]


CASES = {
    "commands": (["ve"], ["verify"]),
    "models": (["convert", "mobilevit_x"], ["<file>", "mobilevit_xxs", "mobilevit_xs"]),
    "formats": (["convert", "--to", ""], sorted(converters())),
    "the last of several formats": (["convert", "--to", "coreml,tf"], ["coreml,tflite"]),
    "precisions": (["convert", "--precision", "fp32,"], [f"fp32,{name}" for name in PRECISIONS]),
    "precisions of quantize": (["quantize", "--precision", "int4"], ["int4-weight"]),
    "choices": (["train", "--precision", ""], ["fp32", "bf16"]),
    "backends": (["convert", "--backend", "x"], ["xnnpack"]),
    "runtimes": (["verify", "out", "--runtime", "litert-c"], ["litert-cpu", "litert-cpu-builtin"]),
    "runtimes of bisect": (["bisect", "--runtime", "arm"], ["arm64"]),
    "families": (["list", "--family", "tiny"], ["tiny_vit"]),
    "a model by option": (["train", "--model", "efficientvit_m"], [f"efficientvit_m{n}" for n in range(6)]),
    "what can be fetched": (["doctor", "--install", "s"], ["swiftshader"]),
    "checkpoints": (["quantize", ""], ["<file>"]),
    "files": (["convert", "--labels", ""], ["<file>"]),
    "options": (["verify", "--base"], ["--baseline"]),
}


@pytest.mark.parametrize("case", CASES)
def test_names_are_offered(case):
    words, expected = CASES[case]
    assert offered(*words) == expected


def test_every_command_and_every_model_is_offered():
    assert offered("") == list(VERBS)
    assert set(offered("convert", "")) == {"<file>", *(entry.model for entry in catalog())}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("line", ["convert mob", "convert --to t", "verify --runtime l", "convert --precision i"])
def test_bash_gets_the_names_without_torch(line, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None\n")  # importing it fails
    environment = os.environ | {"COMP_WORDS": f"mobilevit {line}", "COMP_CWORD": str(len(line.split()))}
    environment |= {"_MOBILEVIT_COMPLETE": "bash_complete", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, *PROGRAM[1:]], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert any(row.startswith(f"plain,{line.split()[-1]}") for row in done.stdout.splitlines())
