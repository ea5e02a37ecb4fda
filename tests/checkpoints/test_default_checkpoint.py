"""The trained checkpoint that ships: real, and converted and verified in every format."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import REPOSITORY, sampled
from made_once import in_this_process

from mobilevit_sdk import convert, evaluate
from mobilevit_sdk.artifacts.artifact import find_artifacts
from mobilevit_sdk.checkpoints.default import default_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.formats.converter import converters

CIFAR10_TEST = REPOSITORY.parent / "shared" / "data" / "cifar10-test.parquet"
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def mobilevit(*arguments):
    """Run the command line as a user does; its exit code and the JSON document that is all of its output."""
    command = [sys.executable, "-c", "from mobilevit_sdk.cli import main; main()", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout)


EVERYTHING, ONE = ("--precision", "fp32,fp16"), ("--to", "tflite", "--precision", "fp32")


@pytest.fixture(scope="session", params=sampled([ONE, EVERYTHING], ONE), ids=" ".join)
def converted(request, tmp_path_factory):
    """Exit code, document, folder and options; by default of one file."""
    for toolchain in ("coremltools", "executorch", "litert_torch"):
        pytest.importorskip(toolchain)
    out = tmp_path_factory.mktemp("default")
    return (*mobilevit("convert", *request.param, "--out", out), out, request.param)


def test_the_weights_are_small_and_tell_how_they_came_to_be():
    assert default_checkpoint().stat().st_size <= 2_500_000
    spec = load_checkpoint(default_checkpoint()).spec
    assert list(spec.labels) == CIFAR10
    assert spec.preprocessing.image_size == (64, 64)
    assert spec.provenance["top1"] >= 0.85
    assert {"recipe", "data", "test_images"} <= set(spec.provenance)
    assert "seed" in spec.provenance["recipe"]


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR10_TEST.exists(), reason="needs ../shared/data/cifar10-test.parquet")
def test_the_accuracy_in_the_header_is_the_accuracy_that_it_has():
    code, document = mobilevit("eval", "--data", CIFAR10_TEST)
    assert code == 0
    assert document["top1"] == pytest.approx(load_checkpoint(default_checkpoint()).spec.provenance["top1"], abs=1e-3)


def test_every_format_and_precision_passes_on_a_runtime_of_this_machine(converted):
    code, document, _, options = converted
    assert code == 0, document
    made = {(row["format"], row["precision"]) for row in document["artifacts"]}
    everything = {(c.format, p) for c in converters().values() for p in c.precisions if p in ("fp32", "fp16")}
    assert made == (everything if options == EVERYTHING else {("tflite", "fp32")})
    for row in document["artifacts"]:
        statuses = {verdict["status"] for verdict in row["verdicts"]}
        assert "passed" in statuses, row
        assert statuses <= {"passed", "unavailable"}, row


def test_the_document_has_the_keys_of_the_contract(converted):
    document = converted[1]
    assert {"model", "artifacts", "preprocessing", "preprocessing_source", "license"} <= set(document)
    assert document["preprocessing"]["image_size"] == [64, 64]
    keys = {"path", "format", "precision", "bytes", "seconds", "max_rank", "delegates", "undelegated_ops", "verdicts"}
    assert all(keys <= set(row) for row in document["artifacts"])


def test_graphs_have_rank_4_and_are_one_delegate_call(converted):
    for row in converted[1]["artifacts"]:
        assert row["max_rank"] <= 4
        if row["format"] in ("executorch", "tflite"):
            assert (row["delegates"], row["undelegated_ops"]) == (1, {})


def test_labels_and_preprocessing_travel_inside_every_file(converted):
    for artifact in find_artifacts([converted[2]]):
        _, document = mobilevit("inspect", artifact.path)
        keys = {"format", "bytes", "inputs", "outputs", "operators", "max_rank", "delegates", "undelegated_ops"}
        assert keys | {"preprocessing", "labels", "model", "precision"} <= set(document)
        assert document["labels"] == CIFAR10
        assert document["preprocessing"]["image_size"] == [64, 64]


def test_converting_again_keeps_what_is_up_to_date(converted):
    _, _, out, options = converted
    before = {artifact.path: artifact.path.stat().st_mtime_ns for artifact in find_artifacts([out])}
    code, document = mobilevit("convert", *options, "--out", out, "--no-verify")
    assert code == 0
    assert len(document["artifacts"]) == len(before)
    assert {artifact.path: artifact.path.stat().st_mtime_ns for artifact in find_artifacts([out])} == before


def test_formats_agree_with_each_other_on_the_best_class(converted):
    """Against the stored answers of PyTorch, which are the same in every artifact."""
    logits = [artifact.reference().answers for artifact in find_artifacts([converted[2]])]
    assert all(np.array_equal(logits[0], other) for other in logits)
    assert len(set(logits[0].argmax(1).tolist())) > 2  # the cases are told apart


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR10_TEST.exists(), reason="needs ../shared/data/cifar10-test.parquet")
def test_an_artifact_of_every_format_is_as_accurate_as_its_checkpoint(tmp_path):
    with in_this_process():
        result = convert(default_checkpoint(), out=tmp_path, check=False)
        assert sorted(each.manifest.format for each in result.artifacts) == sorted(converters())
        images = open_dataset(CIFAR10_TEST)
        expected = evaluate(data=images, limit=100).accuracy.top1
        for artifact in result.artifacts:
            off = 0.011 if artifact.manifest.precision == "fp16" else 0
            found = evaluate(artifact, data=images, limit=100).accuracy.top1
            assert found == pytest.approx(expected, abs=off), artifact.path


def test_verify_on_other_images_asks_the_checkpoint(converted, tmp_path):
    from PIL import Image

    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (80, 100, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{seed}.png")
    code, document = mobilevit(
        "verify", converted[2] / "mobilevit_xxs-tflite-fp32", "--images", tmp_path, "--runtime", "litert-cpu"
    )
    assert code == 0
    assert [verdict["cases"] for verdict in document["verdicts"]] == [3]


def test_a_tampered_file_fails_with_exit_code_1(converted, tmp_path):
    import shutil

    folder = tmp_path / "tampered"
    shutil.copytree(converted[2] / "mobilevit_xxs-tflite-fp32", folder)
    file = folder / "mobilevit_xxs.tflite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    code, document = mobilevit("verify", folder)
    assert (code, document["passed"]) == (1, False)
    assert "SHA-256" in document["verdicts"][0]["reason"]
