"""Values on the way through real files of each format: they are the file's own, and a fault among them shows."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import sampled, tiny_model, tiny_spec
from made_once import in_this_process
from PIL import Image

from mobilevit_sdk import bisect, convert, load_checkpoint
from mobilevit_sdk.artifacts.artifact import find_artifacts, open_artifact
from mobilevit_sdk.artifacts.reference import reference_of
from mobilevit_sdk.bisection.graph import TracedGraph
from mobilevit_sdk.bisection.search import convert_afresh, diagnose, places_of
from mobilevit_sdk.bisection.taps import tapped_values
from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.formats.runtime_ref import RuntimeRef
from mobilevit_sdk.formats.taps import TappedRuntime
from mobilevit_sdk.parity.gate import judge
from mobilevit_sdk.parity.runs import Run

FORMATS = {
    "coreai fp16": ("coreai", None, "fp16", "coreai"),
    "coreml fp16": ("coreml", None, "fp16", "coreml-reference"),
    "tflite fp32": ("tflite", None, "fp32", "litert-cpu"),
    "executorch fp32": ("executorch", "xnnpack", "fp32", "executorch"),
    "onnx fp32": ("onnx", None, "fp32", "onnxruntime"),
    "executorch-coreml fp16": ("executorch", "coreml", "fp16", "coreml-reference"),
}
TOOLCHAINS = {
    "coreai": "coreai_torch",
    "coreml": "coremltools",
    "tflite": "litert_torch",
    "executorch": "executorch",
    "onnx": "onnxscript",
}


@torch.no_grad()
def swap_q_and_k(network):
    for tensor in network.stages[1][1].transformer[0].attention.qkv.parameters():
        tensor[:32] = torch.cat((tensor[16:32], tensor[:16]))


@pytest.fixture(scope="module", params=sampled(FORMATS, *list(FORMATS)[:4]))  # the last has taps of Core ML
def files(request, tmp_path_factory):
    """The converter, the precision, the runtime, the network, and its file without and with a fault."""
    name, backend, precision, runtime_name = FORMATS[request.param]
    pytest.importorskip(TOOLCHAINS[name])
    converter, spec, folder = find_converter(name, backend), tiny_spec(), tmp_path_factory.mktemp(name)
    healthy = random_checkpoint(spec, 0).model
    faulty = copy.deepcopy(healthy)
    swap_q_and_k(faulty)
    paths = []
    for title, network in (("healthy", healthy), ("faulty", faulty)):
        paths.append(folder / f"{title}{converter.suffix}")
        converter.convert(deploy(network, converter.target, spec), spec, precision, paths[-1])
    runtime = next(runtime for runtime in converter.runtimes if runtime.name == runtime_name)
    return converter, precision, runtime, healthy, *paths


def tapped(converter, runtime, path, cases):
    taps, values = tapped_values(RuntimeRef(converter.format, converter.backend, runtime.name, path), cases)
    return taps, list(values)


def test_the_values_of_a_file_are_those_that_lead_to_its_answer(files):
    converter, _, _, _, path, _ = files
    cases = builtin_cases(tiny_spec().preprocessing)[:3]
    runtimes = [each for each in converter.runtimes if isinstance(each, TappedRuntime) and each.availability()]
    assert runtimes
    for runtime in runtimes:
        answer = runtime.load(path)
        taps, values = tapped(converter, runtime, path, cases)
        assert len({tap.operator for tap in taps}) > 5
        for case, row in zip(cases, values, strict=True):
            scores = answer(case.as_passed())
            assert [value.shape for value in row] == [tap.shape for tap in taps]
            # onnxruntime fuses operators between which nobody asks for a value.
            slack = 1e-5 if converter.format == "onnx" else 0
            assert any(value.size == scores.size and np.allclose(value.ravel(), scores, slack, slack) for value in row)


def test_every_operator_that_computes_is_found_in_the_file(files):
    converter, precision, runtime, model, path, _ = files
    spec, cases = tiny_spec(), builtin_cases(tiny_spec().preprocessing)[:1]
    graph = TracedGraph(model, converter.target, spec)
    places = places_of(graph, cases[0], tapped(converter, runtime, path, cases), precision)
    computing = {
        "conv2d",
        "linear",
        "bmm",
        "einsum",
        "softmax",
        "silu",
        "add",
        "cat",
        "mean",
        "layer_norm",
        "mul",
        "rsqrt",
    }
    missing = [step.place for step in graph.steps if step.operator in computing and step.node not in places]
    assert not missing


def test_a_fault_in_the_file_is_found(files, tmp_path):
    converter, precision, runtime, model, healthy, faulty = files
    spec = tiny_spec()
    cases = builtin_cases(spec.preprocessing)[:3]
    reference = reference_of(model, spec.preprocessing, cases)
    answer = runtime.load(faulty)
    scores = np.stack([answer(case.as_passed()) for case in cases])
    artifact = _artifact(tmp_path, converter, precision, faulty, reference)
    graph = TracedGraph(model, converter.target, spec)
    values, fresh = (tapped(converter, runtime, path, cases) for path in (faulty, healthy))
    verdict = judge(Run(artifact, runtime.name, "", scores, reference))
    found = diagnose(verdict, graph, cases, values, fresh)
    assert (found.status, found.cause, found.others) == ("diverged", "file", 1)
    assert found.culprit.layer in {f"stages.1.1.transformer.0.attention.{part}" for part in "qk"}
    assert (found.culprit.module, found.culprit.operator) == ("stages.1.1.transformer.0.attention", "linear")
    assert found.culprit.fresh_created_db > found.culprit.created_db + 40


def _artifact(folder, converter, precision, path, reference):
    """An artifact whose manifest is the healthy network's and whose file is `path`."""
    from helpers import write_artifact

    artifact = write_artifact(folder / "artifact", tiny_spec(), reference, precision=precision)
    manifest = (folder / "artifact" / "manifest.json").read_text()
    manifest = manifest.replace('"format": "fake"', f'"format": "{converter.format}"')
    manifest = manifest.replace(artifact.manifest.file, path.name)
    (folder / "artifact" / "manifest.json").write_text(manifest)
    (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / "artifact" / path.name)
    return open_artifact(folder / "artifact")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A checkpoint and its Core ML artifact. Read only: `copy` gives one to damage."""
    pytest.importorskip("coremltools")
    folder = tmp_path_factory.mktemp("converted")
    save_checkpoint(random_checkpoint(tiny_spec(), 0).model, tiny_spec(), folder / "healthy.safetensors")
    with in_this_process():
        convert(load_checkpoint(folder / "healthy.safetensors"), out=folder / "out", formats=["coreml"], check=False)
    return folder


@pytest.fixture
def copy_of(converted, tmp_path):
    """With its checkpoint where the manifest says: the folder above the artifact's."""
    shutil.copy(converted / "healthy.safetensors", tmp_path)
    return shutil.copytree(converted / "out" / "mobilevit_xxs-coreml-fp16", tmp_path / "out" / "artifact")


def run(*arguments):
    return CliRunner().invoke(main, ["bisect", *map(str, arguments)])


def test_the_command_names_the_block_at_fault(converted, copy_of, tmp_path):
    (artifact,) = find_artifacts([copy_of])
    faulty = load_checkpoint(converted / "healthy.safetensors")
    swap_q_and_k(faulty.model)
    wrong = convert_afresh(faulty, find_converter("coreml"), "fp16", tmp_path)
    shutil.rmtree(artifact.path)
    shutil.copytree(wrong, artifact.path)
    done = run(copy_of, "--json", "--report", tmp_path / "report")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert (document["status"], document["cause"]) == ("diverged", "file")
    assert document["culprit"]["block"] == "stages.1.1.transformer.0"
    assert document["sqnr_db"] < document["threshold_db"] == 40
    assert [row["block"] for row in document["blocks"] if row["diverged"]] == ["stages.1.1.transformer.0"]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["bisect.json", "bisect.png"]


@pytest.mark.slow
def test_a_good_file_ends_with_0_and_a_table(copy_of):
    done = run(copy_of)
    assert done.exit_code == 0
    assert "agrees; " in done.stdout
    assert "stages.1.1.transformer.1" in done.stdout


def test_what_is_wrong_with_the_request_is_said_in_one_line(converted, copy_of, tmp_path):
    save_checkpoint(*tiny_model(seed=1), tmp_path / "other.safetensors")
    for arguments, code, message in (
        ((copy_of, "--checkpoint", tmp_path / "other.safetensors"), 2, "is not the checkpoint that"),
        ((copy_of, "--checkpoint", tmp_path / "none.safetensors"), 2, "does not exist"),
        ((copy_of, "--runtime", "coreml-referenz"), 2, "did you mean coreml-reference"),
        ((copy_of, "--runtime", "coreml"), 2, "coreml does not expose intermediate values"),
        ((tmp_path / "none",), 2, "does not exist"),
    ):
        done = run(*arguments)
        assert (done.exit_code, done.stdout) == (code, "")
        (line,) = done.stderr.strip().splitlines()
        assert message in line, line


def test_a_damaged_file_is_refused_in_one_line(copy_of):
    (artifact,) = find_artifacts([copy_of])
    weights = artifact.path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    weights.write_bytes(weights.read_bytes()[:200])
    done = run(copy_of)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "truncated or damaged" in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["onnx", pytest.param("tflite", marks=pytest.mark.slow)])
def test_channels_that_are_smoothed_for_integers_are_no_error_of_theirs(name, tmp_path):
    """What values of attention are divided by stands in the manifest, and in what the file is compared with."""
    pytest.importorskip(TOOLCHAINS[name])
    checkpoint = random_checkpoint(tiny_spec(), 3)
    source = tmp_path / "tiny.safetensors"
    save_checkpoint(checkpoint.model, checkpoint.spec, source)
    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for index in range(12):
        colors = random.integers(0, 256, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(colors).resize((32, 32), Image.Resampling.BICUBIC).save(photos / f"{index}.png")
    with in_this_process():
        result = convert(source, out=tmp_path / "out", formats=name, precisions="int8", calibration=photos, check=False)
    (artifact,) = result.artifacts
    record = artifact.manifest.quantization
    assert record is not None
    assert len(record.smoothing) == 3  # the projections of two blocks' attention, and the classifier
    found = bisect(artifact, checkpoint=source)
    created = {
        (each.layer, each.operator): each.created_db for each in found.operators if each.layer.endswith((".v", ".proj"))
    }
    assert len(created) == 4
    assert min(created.values()) > 15
