"""The command line's contract: exit codes, one line an error, one JSON document, nothing half-written."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from click.testing import CliRunner
from helpers import REPOSITORY, sampled, tiny_model

from mobilevit_sdk import convert, quantize
from mobilevit_sdk.artifacts.artifact import find_artifacts
from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.cli import VERBS, main
from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.formats.converter import converters
from mobilevit_sdk.formats.runtime import Availability


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(*tiny_model(), path)
    return path


def test_help_and_the_import_of_the_package_load_no_heavy_library():
    program = (
        "import sys, mobilevit_sdk, mobilevit_sdk.cli\n"
        "try: mobilevit_sdk.cli.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'sklearn', 'coremltools', 'executorch', 'litert_torch', 'pyarrow'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json(verb):
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert "--json" in result.output


BAD_REQUESTS = {
    "unknown model": (["convert", "mobilevit_xxs_"], "did you mean mobilevit_xxs"),
    "a name without a seed": (["convert", "mobilevit_s"], "--random-weights SEED"),
    "a seed without a name": (["convert", "--random-weights", "1"], "needs the name of a registered model"),
    "a missing checkpoint": (["convert", "missing/file.pth"], "missing/file.pth"),
    "an unknown format": (["convert", "{tiny}", "--to", "tflight"], "did you mean tflite"),
    "an unknown precision": (["convert", "{tiny}", "--precision", "fp23"], "fp32"),
    "a precision that a format lacks": (
        ["convert", "{tiny}", "--to", "executorch", "--precision", "int8-weight"],
        "int8-dynamic",
    ),
    "a wrong class count": (["convert", "{tiny}", "--num-classes", "7"], "5 classes"),
    "labels of another length": (["convert", "{tiny}", "--labels", "{labels}"], "3 labels, but the head has 5"),
    "labels that are missing": (["convert", "{tiny}", "--labels", "nowhere.txt"], "nowhere.txt"),
    "a folder that cannot be written": (
        ["convert", "{tiny}", "--to", "tflite", "--out", "/proc/nothing"],
        "/proc/nothing",
    ),
    "an unknown family": (["list", "--family", "mobilevitt"], "did you mean mobilevit"),
    "nothing to verify": (["verify", "{folder}"], "holds no artifact"),
    "no such artifact": (["inspect", "nowhere.tflite"], "nowhere.tflite does not exist"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_wrong_request_is_one_line_with_exit_code_2(case, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    (tmp_path / "folder").mkdir()
    names = {"tiny": checkpoint, "labels": tmp_path / "labels.txt", "folder": tmp_path / "folder"}
    arguments, expected = BAD_REQUESTS[case]
    result = run(*(argument.format(**names) for argument in arguments))
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert result.exit_code == 2, result.output
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "labels.txt"]


@pytest.mark.parametrize(
    "command",
    [
        "verify nowhere --report file/report",
        "verify nowhere --summary file/summary.md",
        "bisect nowhere --report file",
        "bench nowhere --plot file/plot.png",
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = run(*command.split())
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: cannot write into file")


@pytest.mark.parametrize("function", [convert, quantize])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(function, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"cannot write into .*file/out"):
        function("nowhere.pth", out=tmp_path / "file" / "out")


def test_an_error_with_json_is_a_json_document(tmp_path):
    result = run("inspect", tmp_path / "nowhere.tflite", "--json")
    assert json.loads(result.stdout)["exit_code"] == result.exit_code == 2


def test_a_toolchain_that_is_not_installed_is_named_with_the_way_to_get_it(checkpoint, tmp_path, monkeypatch):
    converter = converters()["tflite"]
    missing = Availability(None, "litert-torch is not installed: pip install 'mobilevit-sdk[tflite]'")
    monkeypatch.setattr(type(converter), "availability", lambda self: missing)
    result = run("convert", checkpoint, "--to", "tflite", "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "cannot convert to tflite" in result.stderr
    assert "pip install 'mobilevit-sdk[tflite]'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_artifact_is_never_replaced(checkpoint, tmp_path):
    pytest.importorskip("litert_torch")
    precious = tmp_path / "mobilevit_xxs-tflite-fp32" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    result = run("convert", checkpoint, "--to", "tflite", "--out", tmp_path, "--force")
    assert result.exit_code == 2
    assert precious.read_text() == "years of work"


def test_converters_are_found_by_entry_point_alone():
    assert set(converters()) == {point.name for point in entry_points(group="mobilevit_sdk.converters")}
    for path in (REPOSITORY / "mobilevit_sdk").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) converters\b", path.read_text(), re.MULTILINE), path


def test_a_full_disk_is_one_line_and_leaves_nothing(checkpoint, tmp_path):
    """A limit on the size of files stands for the full disk: the reference vectors exceed it."""
    pytest.importorskip("onnxscript")
    limit = 80_000
    assert checkpoint.stat().st_size < limit < 27 * 3 * 32 * 32
    program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
    program += "from mobilevit_sdk.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        program,
        "convert",
        str(checkpoint),
        "--to",
        "onnx",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(r"error: .*cannot write .*File too large", done.stderr)
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("stage", sampled(["deploy", "convert", "inspect"], "convert"))
def test_a_kill_at_any_stage_leaves_no_partial_artifact(stage, checkpoint, tmp_path):
    pytest.importorskip("onnxscript")
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from mobilevit_sdk.cli import main; main()"]
    command += ["convert", str(checkpoint), "--to", "onnx", "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        for line in process.stderr:
            if line.rstrip().endswith(f": {stage}"):
                os.killpg(process.pid, signal.SIGKILL)
                break
    if [path.name for path in out.iterdir() if not path.name.startswith(".")]:  # on a busy machine the kill is late
        (artifact,) = find_artifacts([out])
        assert artifact.is_unchanged()
        assert artifact.reference().cases
    else:
        assert process.returncode == -signal.SIGKILL
        with pytest.raises(ArtifactError, match="holds no artifact"):
            find_artifacts([out])


def test_the_package_run_as_a_module_is_the_command() -> None:
    """As torchrun starts it."""
    found = subprocess.run([sys.executable, "-m", "mobilevit_sdk", "nothing"], capture_output=True, text=True)
    assert found.returncode == 2
    assert "no such command 'nothing'" in found.stderr
    version = subprocess.run([sys.executable, "-m", "mobilevit_sdk", "--version"], capture_output=True, text=True)
    assert version.stdout.startswith("mobilevit, version ")
