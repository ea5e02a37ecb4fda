"""Verdicts. A fake format stands for the toolchains, so that every outcome can be had at will."""

from __future__ import annotations

import re

import numpy as np
import pytest
from fake_format import FakeRuntime, fake_format
from helpers import tiny_reference, tiny_spec, write_artifact

from mobilevit_sdk.errors import ArtifactError, RequestError, ToolchainError
from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.parity import passed, runs, verify


@pytest.fixture(scope="module")
def reference():
    return tiny_reference()


@pytest.fixture
def runtimes(monkeypatch, reference):
    return fake_format(monkeypatch, reference)


@pytest.fixture
def artifact(tmp_path, reference):
    return write_artifact(tmp_path / "one", tiny_spec(), reference)


def test_equal_answers_pass_on_every_case(artifact, runtimes, reference):
    runtimes()
    (verdict,) = verify([artifact])
    assert (verdict.status, verdict.reason) == ("passed", None)
    assert verdict.agreement.cases == len(reference.cases) == 27
    assert passed([verdict])


def test_one_wrong_case_fails_and_is_named(artifact, runtimes, reference):
    bad = reference.answers[20]
    runtimes(spoil=lambda scores: scores * 1.001 if np.array_equal(scores, bad) else scores)
    (verdict,) = verify([artifact])
    assert verdict.status == "failed"
    assert "SQNR 60.0 dB on 'zeros' is below 90 dB" in verdict.reason
    assert not passed([verdict])


def test_thresholds_are_those_of_the_precision(tmp_path, runtimes, reference):
    runtimes(spoil=lambda scores: scores * 1.001)  # 60 dB
    half = write_artifact(tmp_path / "half", tiny_spec(), reference, precision="fp16")
    full = write_artifact(tmp_path / "full", tiny_spec(), reference, precision="fp32")
    assert [verdict.status for verdict in verify([half, full])] == ["passed", "failed"]


def test_swapped_classes_fail_by_top1(tmp_path, runtimes, reference):
    runtimes(spoil=lambda scores: scores[::-1])
    (verdict,) = verify([write_artifact(tmp_path / "half", tiny_spec(), reference, precision="fp16")])
    assert re.search(r"the same best class on \d of 27 cases is below 99%", verdict.reason)


def test_the_same_answer_to_every_image_fails(tmp_path, runtimes, reference):
    runtimes(spoil=lambda scores: reference.answers[0])
    (verdict,) = verify([write_artifact(tmp_path / "few", tiny_spec(), reference, precision="int4-weight")])
    assert "it answers every image with the same scores" in verdict.reason


def test_scores_that_are_not_finite_fail(artifact, runtimes):
    runtimes(spoil=lambda scores: scores * np.float32(np.nan))
    (verdict,) = verify([artifact])
    assert verdict.status == "failed"
    assert "not finite" in verdict.reason


def test_scores_of_another_shape_fail(artifact, runtimes):
    runtimes(spoil=lambda scores: scores[:3])
    (verdict,) = verify([artifact])
    assert (verdict.status, verdict.agreement) == ("failed", None)


def test_a_file_changed_since_conversion_fails(artifact, runtimes):
    runtimes()
    artifact.path.write_bytes(b"another file")
    (verdict,) = verify([artifact])
    assert verdict.status == "failed"
    assert "SHA-256" in verdict.reason


def test_a_runtime_that_is_not_here_is_named_and_passes_nothing(artifact, runtimes):
    runtimes("absent", available=Availability(None, "needs macOS"))
    (verdict,) = verify([artifact])
    assert (verdict.status, verdict.reason) == ("unavailable", "needs macOS")
    assert not passed([verdict])
    runtimes("present")
    assert passed(verify([artifact]))


def test_a_runtime_that_dies_is_an_error_with_its_reason(artifact, runtimes, monkeypatch):
    def die(*args, **options):
        raise ToolchainError("the process died of SIGSEGV")

    runtimes()
    monkeypatch.setattr(runs, "run_in_child", die)
    (verdict,) = verify([artifact])
    assert (verdict.status, verdict.reason) == ("error", "the process died of SIGSEGV")
    assert not passed([verdict])


def test_a_file_that_the_runtime_refuses_has_failed(artifact, runtimes, monkeypatch):
    def refuse(*args, **options):
        raise ArtifactError("3 of 4 operators stay on the CPU")

    runtimes()
    monkeypatch.setattr(runs, "run_in_child", refuse)
    (verdict,) = verify([artifact])
    assert (verdict.status, verdict.reason) == ("failed", "3 of 4 operators stay on the CPU")
    assert not passed([verdict])


def test_nothing_verified_is_not_passed():
    assert not passed([])


def test_a_runtime_that_nothing_runs_on_names_the_nearest(artifact, runtimes):
    runtimes("litert-cpu")
    with pytest.raises(RequestError, match="did you mean litert-cpu"):
        verify([artifact], runtimes=["litert"])


def test_the_case_in_non_contiguous_memory_reaches_the_runtime_as_such(artifact, runtimes):
    seen = []

    class Watching(FakeRuntime):
        def load(self, path):
            answer = super().load(path)
            return lambda image: seen.append(image.flags.c_contiguous) or answer(image)

    runtimes()
    artifact.converter.runtimes[0].__class__ = Watching
    verify([artifact])
    assert seen.count(False) == 1


def test_the_json_of_a_verdict_has_the_keys_of_the_contract(artifact, runtimes):
    runtimes("absent", available=Availability(None, "needs macOS"))
    runtimes("present")
    keys = ["artifact", "format", "precision", "runtime", "status", "reason", "cases", "sqnr_db", "max_abs_diff"]
    keys += ["cosine", "top1_agreement", "top1_ties", "top5_agreement", "max_abs_diff_median", "cosine_median"]
    keys += ["overall_sqnr_db", "top5_worst"]
    keys += ["thresholds", "runtime_version", "bytes", "delegates", "undelegated_ops", "cases_sha256", "sha256"]
    keys += ["seconds", "device"]
    absent, present = (verdict.to_json() for verdict in verify([artifact]))
    assert set(absent) == set(present) == set(keys)
    assert set(present["sqnr_db"]) == {"worst", "median"}
