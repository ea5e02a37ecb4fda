"""Artifacts of one checkpoint against each other."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from helpers import tiny_reference, tiny_spec, write_artifact

from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.parity import compare_runs, judge_runs
from mobilevit_sdk.parity.runs import Run
from mobilevit_sdk.spec import Origin


@pytest.fixture(scope="module")
def reference():
    return tiny_reference()


@pytest.fixture
def run(tmp_path, reference):
    """Makes a run with the noise of a given SQNR in its answers."""

    def make(name, sqnr_db, seed, *, precision="fp32", reference=reference, origin=None):
        artifact = write_artifact(tmp_path / name, tiny_spec(), reference, precision=precision)
        if origin:
            manifest = msgspec.structs.replace(artifact.manifest, origin=origin)
            artifact = dataclasses.replace(artifact, manifest=manifest)
        logits = reference.answers.astype(np.float64)
        noise = np.random.default_rng(seed).normal(size=logits.shape)
        signal, noise = (each - each.mean(axis=1, keepdims=True) for each in (logits, noise))
        noise *= np.linalg.norm(signal, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
        outputs = logits + noise * 10 ** (-sqnr_db / 20)
        return Run(artifact, name, "1.0", outputs.astype(np.float32), reference)

    return make


def test_every_two_of_one_checkpoint_are_compared_and_the_farthest_comes_first(run):
    pairs = compare_runs([run("a", 100, 0), run("b", 110, 1), run("c", 60, 2, precision="fp16")])
    assert [{pair.first_runtime, pair.second_runtime} for pair in pairs[:2]] in (
        [{"a", "c"}, {"b", "c"}],
        [{"b", "c"}, {"a", "c"}],
    )
    assert {pairs[2].first_runtime, pairs[2].second_runtime} == {"a", "b"}
    assert pairs[2].sqnr_db.median == pytest.approx(99.6, abs=0.8)  # noises of 100 and 110 dB that are independent
    assert [pair.status for pair in pairs] == ["passed"] * 3


def test_the_threshold_of_a_pair_follows_from_those_of_the_two(run):
    (pair,) = compare_runs([run("a", 100, 0), run("b", 100, 1)])
    assert pair.threshold.sqnr_db == pytest.approx(90 - 20 * np.log10(2), abs=0.1)
    assert pair.threshold.sqnr_db < 90 - 20 * np.log10(2)
    (pair,) = compare_runs([run("c", 100, 0), run("d", 50, 1, precision="fp16")])
    assert pair.threshold.sqnr_db == pytest.approx(39.9, abs=0.1)
    assert pair.threshold.top1_agreement == pytest.approx(0.99)


def test_two_that_pass_alone_agree_as_a_pair_however_their_noise_lies(run):
    first = run("a", 90.1, 3)
    away = first.reference.answers - (first.outputs - first.reference.answers)
    second = dataclasses.replace(run("b", 90.1, 3), outputs=away.astype(np.float32))
    outcome = judge_runs([first, second])
    assert [verdict.reason for verdict in outcome.verdicts] == [None, None]
    assert outcome.pairs[0].status == "passed"


def test_two_that_pass_alone_by_other_references_fail_as_a_pair(run, reference):
    moved = Reference(reference.cases, reference.answers * np.float32(1.01))
    outcome = judge_runs([run("a", 120, 0), run("b", 120, 1, reference=moved)])
    assert [verdict.reason for verdict in outcome.verdicts] == [None, None]
    assert outcome.pairs[0].status == "failed"
    assert "SQNR 40.0 dB between them is below 83.9 dB" in outcome.pairs[0].reason
    assert outcome.contradictions == outcome.pairs
    assert outcome.missed
    assert not outcome.passed


def test_a_pair_with_one_that_failed_alone_is_explained_by_it(run):
    outcome = judge_runs([run("a", 120, 0), run("b", 60, 1)])
    assert [verdict.status for verdict in outcome.verdicts] == ["passed", "failed"]
    assert (outcome.pairs[0].status, outcome.contradictions) == ("failed", ())


def test_other_checkpoints_and_other_images_make_no_pair(run, reference):
    other = Origin(source="other", layout="own", sha256="0" * 64)
    some = Reference(reference.cases[:5], reference.answers[:5])
    rest = Reference(reference.cases[5:], reference.answers[5:])
    assert compare_runs([run("a", 100, 0), run("b", 100, 0, origin=other)]) == []
    assert compare_runs([run("c", 100, 0, reference=some), run("d", 100, 0, reference=rest)]) == []
    (pair,) = compare_runs([run("e", 100, 0, reference=some), run("f", 100, 0)])
    assert pair.cases == 5


def test_answers_that_are_not_finite_agree_with_nothing(run):
    broken = dataclasses.replace(run("a", 100, 0), outputs=np.full((27, 5), np.nan, np.float32))
    (pair,) = compare_runs([run("b", 100, 0), broken])
    assert pair.status == "failed"
