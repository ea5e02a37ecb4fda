"""`mobilevit convert --to coreml --backend ane`: the Neural Engine's form, in the file and on the command line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import sampled
from helpers import tiny_model as small_mobilevit
from phone_files import PhoneFile
from tiny_networks import FAMILIES

from mobilevit_sdk.artifacts.artifact import find_artifacts
from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.conversion.plan import plan_conversions
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.parity.metrics import Agreement, compare

pytest.importorskip("coremltools")

from mobilevit_converters.coreml.file.package import BACKEND_KEY, model_file, operations, parse_model, read_package

GENERAL, ANE = find_converter("coreml"), find_converter("coreml", "ane")


def agreement(file: PhoneFile) -> Agreement:
    run = next(runtime for runtime in ANE.runtimes if runtime.name == "coreml-reference").load(file.path)
    return compare(file.reference.answers, np.stack([run(case.as_passed()) for case in file.reference.cases]))


@pytest.mark.parametrize("precision", sampled(["fp32", "fp16"], "fp16"))
@pytest.mark.parametrize("family", FAMILIES)
def test_both_forms_answer_as_pytorch_at_rank_4_without_gather_and_casts_within(family, precision, phone_files):
    operators, worst_db = {}, {}
    for converter in (GENERAL, ANE):
        file = phone_files.file("coreml", precision, family, backend=converter.backend)
        found = agreement(file)
        assert found.top1_agreement == 1
        assert found.sqnr_db.median >= (90 if precision == "fp32" else 40)
        worst_db[converter] = found.sqnr_db.worst
        inspection = converter.inspect(file.path)
        assert inspection.max_rank == 4
        kinds = [operation.type for operation in operations(read_package(file.path).block)]
        first, *_, last = (i for i, kind in enumerate(kinds) if kind in ("conv", "linear", "einsum", "matmul"))
        assert not {"cast", "gather", "gather_along_axis", "gather_nd"} & set(kinds[first:last])
        operators[converter] = inspection.operators
    # In float16, random weights lose what luck has it: not more in one form than in the other.
    assert worst_db[ANE] >= (90 if precision == "fp32" else worst_db[GENERAL] - 3)
    assert not {"linear", "matmul"} & set(operators[ANE])
    assert operators[ANE].get("transpose", 0) <= operators[GENERAL]["transpose"] / 2
    assert operators[ANE]["reshape"] < operators[GENERAL]["reshape"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_norm_over_channels_is_one_operator(precision, phone_files):
    file = phone_files.file("coreml", precision, backend="ane")
    norms = [operation for operation in operations(read_package(file.path).block) if operation.type == "layer_norm"]
    assert len(norms) == 5  # two for each of two transformer blocks, one behind them
    assert not {"rsqrt", "batch_norm", "sub"} & set(ANE.inspect(file.path).operators)


def test_convert_verify_and_inspect(tmp_path):
    save_checkpoint(*small_mobilevit(image_size=32), tmp_path / "tiny.safetensors")

    def run(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    out = tmp_path / "out"
    options = ("--to", "coreml", "--backend", "ane", "--out", out, "--json")
    result = run("convert", tmp_path / "tiny.safetensors", *options)
    assert result.exit_code == 0, result.stderr
    (made,) = json.loads(result.stdout)["artifacts"]
    verdicts = {verdict["runtime"]: verdict["status"] for verdict in made["verdicts"]}
    assert (made["format"], made["backend"], made["precision"]) == ("coreml", "ane", "fp16")
    assert verdicts["coreml-reference"] == "passed"
    (artifact,) = find_artifacts([out])
    assert artifact.path.parent.name == "mobilevit_xxs-coreml-ane-fp16"
    assert (artifact.manifest.backend, artifact.manifest.target) == ("ane", "coreml-ane")
    assert run("verify", out, "--runtime", "coreml-reference").exit_code == 0
    assert "decided on the device (ane)" in run("inspect", artifact.path).stdout


def test_the_form_is_asked_for_and_never_chosen():
    for backend, name, target in ((None, "coreml fp16", "coreml"), ("ane", "coreml-ane fp16", "coreml-ane")):
        (chosen,) = plan_conversions(["coreml"], (), backend)
        assert (chosen.name, chosen.converter.target) == (name, target)


def test_a_file_for_an_unknown_backend_is_refused(phone_files, tmp_path):
    path = shutil.copytree(phone_files.file("coreml", "fp32", backend="ane").path, tmp_path / "a.mlpackage")
    model = parse_model(model_file(path))
    assert model.description.metadata.userDefined[BACKEND_KEY] == "ane"
    model.description.metadata.userDefined[BACKEND_KEY] = "tpu"
    model_file(path).write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="unknown backend 'tpu'"):
        GENERAL.inspect(path)
