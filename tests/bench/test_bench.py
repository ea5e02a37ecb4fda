"""Latencies: that they are of the right thing, taken in turns, with the threads asked for. No test asserts a time."""

from __future__ import annotations

import dataclasses
import os
import signal
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import tiny_spec, write_artifact
from torch import nn

from mobilevit_sdk.artifacts import artifact as artifact_module
from mobilevit_sdk.artifacts.artifact import open_artifact
from mobilevit_sdk.artifacts.reference import Reference, reference_of
from mobilevit_sdk.bench import BASELINES, Candidate, bench, candidates_of
from mobilevit_sdk.bench import plan as planning
from mobilevit_sdk.bench.candidates import Question
from mobilevit_sdk.bench.plan import plan, thread_counts
from mobilevit_sdk.bench.worker import Worker
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data.cases import Case, builtin_cases
from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError
from mobilevit_sdk.formats.converter import converters
from mobilevit_sdk.formats.runtime import Availability, Session, TimedRuntime
from mobilevit_sdk.layers import Attention
from mobilevit_sdk.models.meta_model import count_macs
from mobilevit_sdk.models.registry import build_model

SCORES = np.array([1.0, -2.0, 3.0], np.float32)
QUESTION = Question(Reference((Case("zeros", np.zeros((3, 4, 4), np.uint8)),), SCORES[None]), tiny_spec(), macs=1000)


# What candidates load, in their child processes.


def answering(scores, threads):
    return Session(lambda image: None, lambda nothing: scores)


def answering_its_threads(threads):
    scores = np.array([threads, int(os.environ["OMP_NUM_THREADS"])], np.float32)
    return Session(lambda image: None, lambda nothing: scores)


def dying_at_load(threads):
    os.kill(os.getpid(), signal.SIGSEGV)


def dying_later(threads):
    calls = []

    def run(_):
        calls.append(0)
        if len(calls) > 3 and not warming_up():
            os.kill(os.getpid(), signal.SIGABRT)
        return SCORES

    def warming_up():
        import gc

        return gc.isenabled()  # timing has it disabled

    return Session(lambda image: None, run)


def echoing(threads):
    return Session(lambda image: image.astype(np.float32).ravel(), lambda pixels: pixels)


def candidate(open_session, *arguments, name="one", question=QUESTION, **kwargs):
    return Candidate(f"{name}/model.fake", "fake", question, partial(open_session, *arguments), **kwargs)


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_candidate_is_a_row_with_its_ratio_and_its_share_of_the_roof():
    first, second = candidate(answering, SCORES), candidate(answering, SCORES, name="two")
    result = bench([first, second], threads=[1], against=lambda _: first, rounds=2)
    one, two = result.results
    assert (one.artifact, one.runtime, one.threads, one.status) == ("one/model.fake", "fake", 1, "measured")
    assert one.ratio == 1.0
    assert two.ratio == two.median_ms / one.median_ms
    assert 0 < one.median_ms <= one.p90_ms
    rate = result.sgemm_gmacs_per_second[1]
    assert one.roof_share == pytest.approx(1000 / 1e9 / (one.median_ms / 1e3) / rate)
    assert one.sqnr_db == 200.0


def test_crashes_and_wrong_answers_are_rows_with_a_reason_and_the_others_are_measured():
    cases = [
        candidate(dying_at_load),
        candidate(dying_later),
        candidate(answering, -SCORES),
        candidate(answering, SCORES[:2]),
        candidate(answering, SCORES),
        candidate(answering, SCORES, unavailable="needs macOS"),
    ]
    result = bench(cases, threads=[1], against=lambda _: cases[0], rounds=2)
    found = [(row.status, row.reason) for row in result.results]
    assert found[0] == ("error", "the process died of SIGSEGV")
    assert found[1] == ("error", "the process died of SIGABRT")
    assert found[2][0] == "error"
    assert "something else than PyTorch: SQNR -6.0 dB" in found[2][1]
    assert found[3] == ("error", "it answers (2,) scores, PyTorch (3,)")
    assert found[4] == ("measured", None)
    assert found[5] == ("unavailable", "needs macOS")
    assert [row.median_ms is None for row in result.results] == [True, True, True, True, False, True]
    assert result.results[4].ratio is None  # what it is held against died


def test_a_candidate_gets_the_image_and_the_threads():
    image = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    for open_session, expected in ((echoing, image.ravel()), (answering_its_threads, [2, 2])):
        worker = Worker(open_session, 2, image)
        np.testing.assert_array_equal(worker.scores(), expected)
        worker.stop()
        worker.join()


def test_a_worker_that_is_stopped_ends():
    worker = Worker(partial(answering, SCORES), 1, QUESTION.image)
    np.testing.assert_array_equal(worker.scores(), SCORES)
    assert len(worker.turn(3)) == 3
    worker.stop()
    worker.join()


# Artifacts, references and baselines.


@dataclass
class FakeRuntime:
    name: str = "fake-cpu"
    format: str = "fake"
    available: Availability = field(default_factory=lambda: Availability("1.0"))

    def availability(self):
        return self.available

    def load(self, path):
        raise AssertionError("only sessions are timed")


class TimedFakeRuntime(FakeRuntime):
    def session(self, path, threads):
        return answering(SCORES, threads)


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(tiny_spec(), 0)


@pytest.fixture(scope="module")
def reference(checkpoint):
    preprocessing = checkpoint.spec.preprocessing
    return reference_of(checkpoint.model, preprocessing, builtin_cases(preprocessing)[:2])


@pytest.fixture
def fake_runtimes(monkeypatch):
    found = [TimedFakeRuntime()]

    class Converter:
        runtimes = found

    monkeypatch.setattr(artifact_module, "find_converter", lambda name, backend: Converter)
    return found


@pytest.fixture
def folder(tmp_path, reference):
    for name in ("one", "two"):
        write_artifact(tmp_path / "all" / name, tiny_spec(), reference)
    return tmp_path / "all"


def test_an_artifact_is_a_candidate_on_each_runtime_that_can_be_timed(folder, fake_runtimes, reference):
    fake_runtimes += [FakeRuntime("emulated"), TimedFakeRuntime("absent", available=Availability(None, "no driver"))]
    artifact = open_artifact(folder / "one")
    first, second = candidates_of(artifact)
    assert (first.runtime, first.unavailable) == ("fake-cpu", None)
    assert (second.runtime, second.unavailable) == ("absent", "no driver")
    np.testing.assert_array_equal(first.question.image, reference.cases[0].image)
    np.testing.assert_array_equal(first.question.reference.answers, reference.answers[:1])


def test_a_format_without_a_timed_runtime_says_so(folder, fake_runtimes):
    fake_runtimes[:] = [FakeRuntime("emulated")]
    (only,) = candidates_of(open_artifact(folder / "one"))
    assert "(emulated) can be told its number of threads" in only.unavailable


def test_a_changed_file_is_refused(folder, fake_runtimes):
    artifact = open_artifact(folder / "one")
    artifact.path.write_bytes(b"another file")
    with pytest.raises(ArtifactError, match="is not the file that its manifest describes"):
        candidates_of(artifact)


def test_the_cpu_runtimes_of_the_formats_can_be_timed_and_emulations_cannot():
    timed = {
        runtime.name
        for converter in converters().values()
        for runtime in converter.runtimes
        if isinstance(runtime, TimedRuntime)
    }
    assert timed == {"executorch", "litert-cpu", "onnxruntime"}


def test_without_a_reference_ratios_are_over_the_first_artifact(folder, fake_runtimes, tmp_path):
    planned = plan([folder], None, None, tmp_path)
    first, second = planned.candidates
    assert "one" in first.artifact
    assert planned.against == {first: first, second: first}


def test_a_reference_artifact_comes_first_and_is_measured_once(folder, fake_runtimes, tmp_path):
    planned = plan([folder], str(folder / "two"), None, tmp_path)
    first, second = planned.candidates
    assert ("two" in first.artifact, "one" in second.artifact) == (True, True)
    assert set(planned.against.values()) == {first}


def test_a_baseline_is_made_once_for_each_network(folder, fake_runtimes, tmp_path, reference, monkeypatch):
    other = tiny_spec(num_classes=7)
    model = random_checkpoint(other, 0).model
    cases = builtin_cases(other.preprocessing)[:2]
    write_artifact(folder / "zwei", other, reference_of(model, other.preprocessing, cases))
    made = []
    planned = plan([folder], "pytorch", None, tmp_path, progress=lambda step: made.append(step.stage))
    assert made == ["making pytorch of mobilevit_xxs"] * 2
    assert [each.runtime for each in planned.candidates] == ["pytorch"] * 2 + ["fake-cpu"] * 3
    tiny, seven, one, two, zwei = planned.candidates
    assert planned.against == {tiny: tiny, seven: seven, one: tiny, two: tiny, zwei: seven}
    assert tuple(each.question.reference.answers.shape[1] for each in (tiny, seven)) == (5, 7)


@pytest.mark.parametrize(
    ("against", "message"),
    [
        ("pytorhc", "did you mean pytorch"),
        ("nowhere/model.pte", "known: executorch-stock"),
        ("{folder}", "2 artifacts"),
    ],
)
def test_a_wrong_reference_is_refused(against, message, folder, fake_runtimes, tmp_path):
    with pytest.raises(RequestError, match=message):
        plan([folder], against.format(folder=folder), None, tmp_path)


def test_a_baseline_that_is_not_installed_says_how_to_get_it(folder, fake_runtimes, tmp_path, monkeypatch):
    reason = "onnxruntime is not installed: pip install 'mobilevit-sdk[bench]'"
    gone = dataclasses.replace(BASELINES["onnxruntime"], availability=lambda: Availability(None, reason))
    monkeypatch.setitem(planning.BASELINES, "onnxruntime", gone)
    with pytest.raises(ToolchainError, match=r"onnxruntime cannot run here: .*mobilevit-sdk\[bench\]"):
        plan([folder], "onnxruntime", None, tmp_path)


def test_torch_compile_without_a_compiler_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "needs the C++ compiler no-such-compiler" in BASELINES["pytorch-compile"].availability().reason


def test_thread_counts_are_one_and_all_cores_unless_asked(monkeypatch):
    monkeypatch.setattr(planning, "usable_cores", lambda: 8)
    assert thread_counts([]) == [1, 8]
    assert thread_counts([4, 2, 4]) == [4, 2]
    monkeypatch.setattr(planning, "usable_cores", lambda: 1)
    assert thread_counts([]) == [1]


@pytest.mark.parametrize("wrong", [0, -1, 9])
def test_wrong_thread_counts_are_refused(wrong, monkeypatch):
    monkeypatch.setattr(planning, "usable_cores", lambda: 8)
    with pytest.raises(RequestError, match="numbers from 1 to 8"):
        thread_counts([1, wrong])


@pytest.mark.parametrize("wrong", ["two", "1.5", "²", "-1"])
def test_what_is_not_a_number_of_threads_is_refused(wrong):
    result = run("bench", "model.tflite", "--threads", f"1,{wrong}")
    assert result.exit_code == 2
    assert f"--threads takes numbers, such as 1,4, not {wrong!r}" in result.stderr


def test_macs_are_those_of_convolutions_linears_and_attention():
    spec = tiny_spec()
    model, counted = build_model(spec).eval(), []

    def count(layer, inputs, output):
        if isinstance(layer, Attention):
            batch, tokens, dim = inputs[0].shape
            counted.append(2 * batch * tokens * tokens * dim)
        else:
            counted.append(output.numel() * layer.weight[0].numel())

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear, Attention)):
            layer.register_forward_hook(count)
    model(torch.zeros(1, 3, 32, 32))
    assert count_macs(spec) == sum(counted)
