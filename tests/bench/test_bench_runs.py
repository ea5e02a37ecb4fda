"""Real artifacts and baselines, measured. No test asserts a time."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import tiny_spec, write_artifact
from made_once import in_this_process
from small_detector import small_detector

import mobilevit_sdk
from mobilevit_sdk.artifacts.artifact import find_artifacts, open_artifact, write_manifest
from mobilevit_sdk.artifacts.reference import reference_of
from mobilevit_sdk.bench import BASELINES, bench, candidates_of, describe_machine, prepare, usable_cores
from mobilevit_sdk.bench.candidates import Question
from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.conversion.pipeline import convert
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.models.meta_model import count_macs
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model, model_spec
from mobilevit_sdk.parity.images import checkpoint_of
from mobilevit_sdk.processes.child import run_in_child


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(tiny_spec(), 0)


@pytest.fixture(scope="module")
def reference(checkpoint):
    preprocessing = checkpoint.spec.preprocessing
    return reference_of(checkpoint.model, preprocessing, builtin_cases(preprocessing)[:2])


@pytest.fixture(scope="module")
def converted(checkpoint, tmp_path_factory):
    pytest.importorskip("litert_torch")
    pytest.importorskip("executorch")
    out = tmp_path_factory.mktemp("converted")
    with in_this_process():
        result = convert(checkpoint, out=out, formats=["tflite", "executorch"], check=False)
    assert not result.failures
    return out


def test_the_command_measures_artifacts_against_pytorch(converted, tmp_path):
    picture = tmp_path / "picture.png"
    result = run(
        "bench", converted, "--threads", "1", "--against", "pytorch", "--rounds", 2, "--plot", picture, "--json"
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [row["runtime"] for row in document["results"]] == ["pytorch", "executorch", "litert-cpu"]
    keys = {"artifact", "runtime", "threads", "median_ms", "p90_ms", "ratio"}
    base = document["results"][0]["median_ms"]
    for row in document["results"]:
        assert keys <= set(row)
        assert (row["status"], row["threads"]) == ("measured", 1)
        assert row["ratio"] == pytest.approx(row["median_ms"] / base)
        assert row["sqnr_db"] > 90
    assert document["rounds"] == 2
    assert document["sgemm_gmacs_per_second"]["1"] > 0
    assert document["machine"]["processor"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = mobilevit_sdk.benchmark([converted], threads=[1], against="pytorch", rounds=1)
    for row, printed in zip(found.results, document["results"], strict=True):
        same = ("artifact", "runtime", "threads", "status", "sqnr_db")
        assert {key: getattr(row, key) for key in same} == {key: printed[key] for key in same}


def test_the_command_prints_a_table_and_reasons(converted):
    result = run("bench", converted / "mobilevit_xxs-tflite-fp32", "--threads", "1", "--rounds", 1)
    assert result.exit_code == 0, result.output
    assert "mobilevit_xxs-tflite-fp32 · litert-cpu" in result.stdout
    assert "1.00" in result.stdout
    assert describe_machine().processor in result.stdout


def test_a_file_that_does_not_load_is_an_error_with_exit_code_3_and_the_others_are_measured(converted, tmp_path):
    shutil.copytree(converted, tmp_path, dirs_exist_ok=True)
    artifact = open_artifact(tmp_path / "mobilevit_xxs-tflite-fp32")
    artifact.path.write_bytes(artifact.path.read_bytes()[:1000])
    sha256, size = hash_and_size(artifact.path)
    write_manifest(artifact.path.parent, msgspec.structs.replace(artifact.manifest, sha256=sha256, bytes=size))
    result = run("bench", tmp_path, "--threads", "1", "--rounds", 1, "--json")
    assert result.exit_code == 3
    good, bad = json.loads(result.stdout)["results"]
    assert (good["runtime"], good["status"]) == ("executorch", "measured")
    assert (bad["status"], bad["median_ms"], bad["ratio"]) == ("error", None, None)
    assert str(artifact.path) in bad["reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.tflite"], "nowhere.tflite does not exist"),
        (["{out}", "--against", "onnxruntme"], "did you mean onnxruntime"),
        (["{out}", "--threads", "0"], "--threads takes numbers from 1"),
    ],
)
def test_a_wrong_request_is_one_line_with_exit_code_2(arguments, message, converted):
    result = run("bench", *(argument.format(out=converted) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.fixture(scope="module")
def baseline(checkpoint, reference, tmp_path_factory):
    """Makes one by its name, ready to be measured; each takes its time."""
    folder = tmp_path_factory.mktemp("baselines")
    first = dataclasses.replace(reference, cases=reference.cases[:1], answers=reference.answers[:1])
    question = Question(first, checkpoint.spec, count_macs(checkpoint.spec))

    @functools.cache
    def make(name):
        prepared = prepare(BASELINES[name], checkpoint, folder)
        assert (prepared.seconds > 0, prepared.peak_memory_bytes > 0) == (bool(prepared.baseline.export),) * 2
        return prepared.candidate(question)

    return make


@pytest.mark.slow
def test_every_baseline_answers_as_pytorch(baseline):
    names = [name for name, found in BASELINES.items() if found.availability()]
    results = bench([baseline(name) for name in names], threads=[1], against=lambda mine: mine, rounds=1).results
    assert [(row.runtime, row.status, row.reason) for row in results] == [(name, "measured", None) for name in names]
    assert all(row.sqnr_db > 90 for row in results)
    missing = set(BASELINES) - set(names)
    if missing:
        pytest.skip(f"not installed here: {', '.join(sorted(missing))}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["executorch-stock", "onnxruntime"])
def test_a_baseline_of_a_detector_answers_scores_and_boxes_as_pytorch(name, tmp_path):
    if not (found := BASELINES[name].availability()):
        pytest.skip(str(found.reason))
    detector = small_detector()
    cases = builtin_cases(detector.spec.preprocessing)[:1]
    first = reference_of(detector.model, detector.spec.preprocessing, cases)
    question = Question(first, detector.spec, count_macs(detector.spec))
    stock = prepare(BASELINES[name], detector, tmp_path).candidate(question)
    (row,) = bench([stock], threads=[1], against=lambda mine: mine, rounds=1).results
    assert (row.status, row.reason) == ("measured", None)
    assert row.sqnr_db > 90


def test_the_checkpoint_of_an_artifact_comes_at_the_artifacts_image_size(tmp_path):
    """TinyViT's windows follow the image: at another size it is another network with the same weights."""
    file = tmp_path / "trained.safetensors"
    spec = model_spec("tiny_vit_5m_224", num_classes=5)
    save_checkpoint(randomize(build_model(spec), 0), spec, file)
    resized = load_checkpoint(file, image_size=256)
    reference = reference_of(resized.model, resized.spec.preprocessing, builtin_cases(resized.spec.preprocessing)[:1])
    artifact = write_artifact(tmp_path / "one", resized.spec, reference)
    origin = msgspec.structs.replace(resized.origin, source="../trained.safetensors")  # from the artifact's folder
    manifest = msgspec.structs.replace(artifact.manifest, origin=origin)
    found = checkpoint_of(dataclasses.replace(artifact, manifest=manifest), None)
    assert found.spec == resized.spec
    again = reference_of(found.model, found.spec.preprocessing, reference.cases)
    np.testing.assert_array_equal(again.answers, reference.answers)


def count_threads(open_session, threads, image):
    """In a child: its native threads, once a session has run."""
    session = open_session(threads)
    session.run(session.to_input(image))
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.skipif(usable_cores() < 2, reason="one core")
@pytest.mark.parametrize("name", ["executorch", "litert-cpu", "onnxruntime", "pytorch"])
def test_a_runtime_has_the_threads_that_it_is_told(name, converted, baseline):
    if name not in BASELINES:
        found = [each for artifact in find_artifacts([converted]) for each in candidates_of(artifact)]
        mine = next(each for each in found if each.runtime == name)
    elif not BASELINES[name].availability():
        pytest.skip(BASELINES[name].availability().reason)
    else:
        mine = baseline(name)
    # The environment allows one thread in both, so that no other library brings a second one.
    one, two = (run_in_child(count_threads, mine.open_session, n, mine.question.image, threads=1) for n in (1, 2))
    assert one < two  # PyTorch has two pools, the others one
