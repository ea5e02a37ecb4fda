"""`mobilevit convert --backend`: which backend a .pte is lowered to, and what the command line says of it."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import tiny_model
from mobilevit_converters.executorch.file.coreml_delegate import read_coreml_delegate
from mobilevit_converters.executorch.file.program import read_program

from mobilevit_sdk.artifacts.artifact import MANIFEST, find_artifacts
from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.conversion.plan import plan_conversions
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.formats.converter import label

pytest.importorskip("executorch.exir")
pytest.importorskip("coremltools")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(*tiny_model(image_size=32), path)
    return path


def test_without_options_each_format_goes_to_its_own_backend():
    assert [(label(p.converter), p.converter.backend) for p in plan_conversions((), (), None)] == [
        ("coreai", None),
        ("coreml", None),
        ("executorch", "xnnpack"),
        ("onnx", None),
        ("tflite", None),
    ]
    assert [each.name for each in plan_conversions(["executorch"], (), "coreml")] == ["executorch-coreml fp16"]
    assert [each.name for each in plan_conversions(["executorch"], (), "xnnpack")] == ["executorch fp32"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--to", "executorch", "--backend", "coremll"],
            "executorch has no backend 'coremll'; did you mean coreml or coreai?",
        ),
        (["--to", "executorch", "--backend", "qnn"], "known: coreai, coreml, vulkan, xnnpack"),
        (["--to", "tflite", "--backend", "coreml"], "tflite has no backends to choose from"),
        (["--backend", "coreml"], "give --backend coreml with --to executorch"),
        (["--to", "executorch", "--backend", "xnnpack", "--precision", "int8-weight"], "int8-dynamic"),
    ],
)
def test_a_backend_that_is_not_there_is_one_line(options, message, checkpoint, tmp_path):
    result = run("convert", checkpoint, *options, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert len([line for line in result.stderr.splitlines() if "error:" in line]) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_convert_verify_inspect_and_a_changed_weight(checkpoint, tmp_path):
    out = tmp_path / "out"
    result = run("convert", checkpoint, "--to", "executorch", "--backend", "coreml", "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    (made,) = json.loads(result.stdout)["artifacts"]
    verdicts = {verdict["runtime"]: verdict for verdict in made["verdicts"]}
    assert (made["format"], made["backend"], made["precision"]) == ("executorch", "coreml", "fp16")
    assert (made["delegates"], made["undelegated_ops"], made["max_rank"]) == (1, {}, 4)
    assert verdicts["coreml-reference"]["status"] == "passed"
    assert verdicts["coreml-reference"]["cases"] == 27
    if platform.system() != "Darwin":
        assert verdicts["executorch"]["status"] == "unavailable"
    (artifact,) = find_artifacts([out])
    assert artifact.path.parent.name == "mobilevit_xxs-executorch-coreml-fp16"
    assert (artifact.manifest.backend, artifact.manifest.target) == ("coreml", "coreml")

    shown = run("inspect", artifact.path)
    assert "1 (coreml)" in shown.stdout

    content = bytearray(artifact.path.read_bytes())
    program = read_program(artifact.path)
    (delegate,) = program.method("forward").delegates
    files = read_coreml_delegate(artifact.path, program.delegate_data(delegate)).files
    weights = files["model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"]
    last = content.index(weights) + len(weights)
    content[last - 2 : last] = np.float16(60.0).tobytes()
    artifact.path.write_bytes(content)
    refused = run("verify", out, "--runtime", "coreml-reference")
    assert refused.exit_code == 1
    assert "SHA-256 differs" in refused.stdout

    manifest = json.loads((artifact.path.parent / MANIFEST).read_text())
    manifest["sha256"] = hash_and_size(artifact.path)[0]
    (artifact.path.parent / MANIFEST).write_text(json.dumps(manifest))
    wrong = run("verify", out, "--runtime", "coreml-reference")
    assert wrong.exit_code == 1, wrong.output
    assert "is below 40 dB" in wrong.stdout


def test_doctor_names_both_backends():
    rows = json.loads(run("doctor", "--json").stdout)["tools"]
    assert {"executorch", "executorch-coreml"} <= {row["name"] for row in rows if row["kind"] == "toolchain"}
    assert ("coreml-reference", "executorch") in {(row["name"], row["format"]) for row in rows}
