"""The interpreters of .tflite files besides LiteRT's with XNNPACK: LiteRT's own kernels, and tflite-runtime's."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from pathlib import Path

import clocks
import numpy as np
import pytest
from click.testing import CliRunner
from clocks import Timers
from damage import with_operators_of_version
from mobilevit_converters.tflite import converter
from mobilevit_converters.tflite.runtimes import other_python
from mobilevit_converters.tflite.runtimes import tflite_runtime as legacy_runtime
from mobilevit_converters.tflite.runtimes.tflite_runtime import TFLiteRuntime
from phone_files import SharedFiles

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError
from mobilevit_sdk.formats.runtime import LoadedArtifact, TimedRuntime
from mobilevit_sdk.parity import verify

legacy = TFLiteRuntime()
AVAILABLE = legacy.availability()
needs_legacy = pytest.mark.skipif(not AVAILABLE, reason=f"tflite-runtime: {AVAILABLE.reason}")
CPU = ["litert-cpu", "litert-cpu-builtin", pytest.param("tflite-runtime", marks=needs_legacy)]


@pytest.fixture(scope="module")
def artifacts(phone_files: SharedFiles) -> list[Artifact]:
    """A small network in float32 and float16."""
    return [phone_files.artifact("tflite", precision) for precision in ("fp32", "fp16")]


def load(name: str, path: Path) -> LoadedArtifact:
    return next(runtime for runtime in converter.runtimes if runtime.name == name).load(path)


@pytest.mark.parametrize("name", CPU)
def test_each_answers_as_pytorch_in_both_precisions(name, artifacts):
    verdicts = verify(artifacts, runtimes=[name])
    assert [(verdict.status, verdict.reason) for verdict in verdicts] == [("passed", None)] * 2
    assert verdicts[0].agreement.sqnr_db.worst >= 90
    assert verdicts[0].agreement.sqnr_db.worst > verdicts[1].agreement.sqnr_db.worst  # float16 is another file


def test_their_kernels_are_not_the_same(artifacts):
    """The one hands the graph to XNNPACK, which sums in another order."""
    image = artifacts[0].reference().cases[0].image
    answers = [load(name, artifacts[0].path)(image) for name in ("litert-cpu", "litert-cpu-builtin")]
    assert answers[0].tolist() != answers[1].tolist()
    np.testing.assert_allclose(*answers, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", CPU)
def test_pixels_are_read_in_their_order_and_any_memory_layout(name, artifacts):
    image = artifacts[0].reference().cases[0].image
    answer = load(name, artifacts[0].path)
    np.testing.assert_array_equal(answer(image), answer(np.asfortranarray(image)))
    assert np.abs(answer(image) - answer(image[::-1])).max() > 1e-3


@pytest.mark.parametrize("name", CPU)
def test_pixels_of_another_size_or_type_are_refused(name, artifacts):
    image = artifacts[0].reference().cases[0].image
    answer = load(name, artifacts[0].path)
    for wrong in (image[:, :-1], image.astype(np.float32), image.transpose(1, 2, 0), image.astype(np.int8)):
        with pytest.raises(RequestError, match=r"takes uint8 of shape \(3, 36, 36\), not"):
            answer(wrong)


@pytest.mark.parametrize("name", CPU)
def test_an_operator_that_a_runtime_does_not_know_is_named(name, artifacts, tmp_path):
    path = with_operators_of_version(99, artifacts[0], tmp_path)
    with pytest.raises(ArtifactError, match=r"Didn't find op for builtin opcode '\w+' version '99'"):
        load(name, path)


@pytest.mark.parametrize("name", ["litert-cpu-builtin", "tflite-runtime"])
def test_a_foreign_file_does_not_reach_native_code(name, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(ArtifactError, match="is not a TFLite model"):
        load(name, path)


def test_only_one_is_timed():
    assert [runtime.name for runtime in converter.runtimes if isinstance(runtime, TimedRuntime)] == ["litert-cpu"]


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("raise ImportError('libGL is missing')", "ended early with exit code 1: ImportError: libGL is missing"),
        ("import os; os.abort()", "the process died of SIGABRT"),
        ("import clocks; clocks.stall({pipe!r})", "no answer within 3 seconds"),
        (
            "import os; os.write(1, b'Hello, world!')\nclass Interpreter: ...",
            r"ended early with exit code 1: TypeError",
        ),
    ],
    ids=["broken", "crash", "hang", "chatty"],
)
def test_a_broken_environment_is_told(module, told, artifacts, tmp_path, monkeypatch):
    """What a package prints while it is imported goes to the log, and no further."""
    timers = Timers(tmp_path)
    monkeypatch.setattr(threading, "Timer", timers)
    shutil.copy(clocks.__file__, tmp_path)
    (tmp_path / "numpy.py").touch()
    (tmp_path / "broken.py").write_text(module.format(pipe=str(timers.pipe)))
    with pytest.raises(ToolchainError, match=f"^it: .*{told}"):
        other_python.load_in(
            "it", [sys.executable], tmp_path, "broken", artifacts[0].path, timeout=3, environment={"LANG": "C.UTF-8"}
        )


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A folder that is all of PATH, for a Python that tflite-runtime has no wheels for; the cache is empty."""
    monkeypatch.setattr(legacy_runtime, "own_version", lambda: "3.14")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    legacy_runtime.find_python.cache_clear()
    yield tmp_path / "bin"
    legacy_runtime.find_python.cache_clear()


def put(program: Path, answer: str) -> None:
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)


def test_a_python_without_wheels_is_told_what_to_do(programs):
    put(programs / "python3.11", "exit 127")  # a stub, as version managers leave
    reason = legacy.availability().reason
    assert "has wheels up to Python 3.11 and this is 3.14" in reason
    assert reason.endswith("then: mobilevit doctor --install tflite-runtime")
    result = CliRunner().invoke(main, ["doctor", "--install", "tflite-runtime", "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"] == reason


def test_an_older_python_on_path_serves(programs):
    put(programs / "python3.11", "exit 1")
    put(programs / "python3.10", "exit 0")
    assert legacy_runtime.find_python() == legacy_runtime.Python(str(programs / "python3.10"), "3.10")
    assert legacy.availability().reason == "not installed: mobilevit doctor --install tflite-runtime"


def test_a_machine_without_wheels_is_named(programs, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert legacy.availability().reason == "tflite-runtime 2.14.0 has no wheels for Linux riscv64"


def test_a_fetch_that_fails_leaves_nothing_behind(programs, monkeypatch):
    put(programs / "python3.10", 'case "$4" in *tflite*) exit 1;; esac')
    monkeypatch.setattr(
        legacy_runtime, "install_wheels", lambda requirements, folder, version: folder.mkdir(parents=True)
    )
    result = CliRunner().invoke(main, ["doctor", "--install", "tflite-runtime"])
    assert result.exit_code == 3
    assert "does not import in" in result.stderr.replace("\n", " ")
    assert list((programs.parent / "cache" / "mobilevit-sdk").iterdir()) == []


@needs_legacy
def test_what_is_there_and_works_is_not_fetched_again(monkeypatch):
    monkeypatch.setattr(legacy_runtime, "install_wheels", None)
    result = CliRunner().invoke(main, ["doctor", "--install", "tflite-runtime", "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["runtimes"][0]["version"] == "2.14.0"
