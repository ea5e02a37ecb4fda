"""Answers with several outputs: split and joined again, compared one by one, and judged by the worst."""

from __future__ import annotations

import dataclasses
import json
import math

import msgspec
import numpy as np
import pytest
from fake_format import fake_format
from helpers import tiny_spec, write_artifact
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.bench.candidates import Question
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.runtime import as_row
from mobilevit_sdk.parity import judge_runs, run_artifacts
from mobilevit_sdk.parity.device import CaseOutputs, device_runs
from mobilevit_sdk.parity.drift import compare_with_baseline, read_baseline
from mobilevit_sdk.parity.judge import judge_outputs
from mobilevit_sdk.parity.metrics import WorstMedian
from mobilevit_sdk.parity.report.junit import junit
from mobilevit_sdk.parity.report.page import page
from mobilevit_sdk.parity.report.summary import summary
from mobilevit_sdk.parity.thresholds import THRESHOLDS
from mobilevit_sdk.parity.views import views_of

SPEC = msgspec.structs.replace(tiny_spec(), features="map", scores=True)
SHAPES = ((SPEC.num_classes,), (3, 2, 2))


@given(
    shapes=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4).map(tuple)
)
def test_rows_are_split_as_they_were_joined(shapes):
    rng = np.random.default_rng(0)
    outputs = [rng.normal(size=(5, *shape)).astype(np.float32) for shape in shapes]
    rows = np.stack([as_row(output[i] for output in outputs) for i in range(5)])
    assert rows.shape == (5, sum(map(math.prod, shapes)))
    parts = Reference((), rows, shapes).split(rows)
    assert all(np.array_equal(part, output) for part, output in zip(parts, outputs, strict=True))


@pytest.fixture
def reference():
    rng = np.random.default_rng(1)
    size = SPEC.preprocessing.image_size
    cases = tuple(Case(f"case {i}", rng.integers(0, 256, (3, *size), np.uint8)) for i in range(4))
    return Reference(cases, rng.normal(size=(4, SPEC.num_classes + 12)).astype(np.float32), SHAPES)


def _spoilt(row, logits=1.0, features=1.0):
    factors = np.repeat([logits, features], [SPEC.num_classes, 12]).astype(np.float32)
    return row * factors


@pytest.fixture
def outcome(monkeypatch, tmp_path, reference):
    artifact = write_artifact(tmp_path / "both", SPEC, reference)
    add = fake_format(monkeypatch, reference)
    add("good", spoil=lambda row: _spoilt(row, 1 + 1e-7, 1 + 1e-6))
    add("bad-features", spoil=lambda row: _spoilt(row, features=1.01))
    add("bad-logits", spoil=lambda row: _spoilt(row, -1.0, 1 + 1e-6))
    return judge_runs(run_artifacts(artifact))


def test_the_worst_output_decides_and_is_named(outcome):
    good, features, logits = outcome.verdicts
    assert (good.status, good.worst_output) == ("passed", "features")
    assert good.by_output().startswith("logits 1")
    assert (features.status, features.worst_output) == ("failed", "features")
    assert (
        features.reason == f"features: SQNR 40.0 dB on {_worst(features)!r} is below {THRESHOLDS['fp32'].sqnr_db:g} dB"
    )
    assert features.agreement.top1_agreement is None
    assert (logits.status, logits.worst_output) == ("failed", "logits")
    assert "logits: SQNR -6.0 dB" in logits.reason
    assert "logits: the same best class on 0 of 4 cases" in logits.reason
    assert "features:" not in logits.reason
    assert {pair.reason.split(":")[0] for pair in outcome.pairs if pair.reason} == {"features", "logits"}


def _worst(verdict):
    return f"case {int(np.argmin(verdict.agreement.case_sqnr_db))}"


def test_every_report_shows_each_output(outcome):
    document = json.loads(json.dumps(outcome.to_json()))
    row = document["verdicts"][1]
    assert list(row["outputs"]) == ["logits", "features"]
    assert row["sqnr_db"] == row["outputs"]["features"]["sqnr_db"]
    assert "case_sqnr_db" not in row["outputs"]["logits"]
    assert "outputs" in junit(outcome)
    assert "logits 200.0 dB, features 40.0 dB" in summary(outcome)
    html = page(outcome)
    assert all(f"Differences of {name}" in html for name in ("logits", "features"))
    assert "decides" in html


def test_drift_looks_at_each_output_also_at_the_better_one(outcome, tmp_path):
    (tmp_path / "verdicts.json").write_text(json.dumps(outcome.to_json()))
    baseline = read_baseline(tmp_path / "verdicts.json")
    assert compare_with_baseline(outcome.verdicts, baseline).worse == ()
    worse = next(verdict for verdict in outcome.verdicts if verdict.runtime == "good")
    logits = msgspec.structs.replace(worse.outputs["logits"], sqnr_db=WorstMedian(110.0, 110.0), top1_agreement=0.5)
    worse = msgspec.structs.replace(worse, outputs={**worse.outputs, "logits": logits})
    drift = compare_with_baseline([worse], baseline)
    metrics = ("sqnr_db.worst", "sqnr_db.median", "top1_agreement")
    assert [each.metric for each in drift.worse] == [f"outputs.logits.{metric}" for metric in metrics]
    assert drift.worse[2].message.startswith("logits: the same best class fell from 100%")


def test_a_classifier_has_no_such_field(monkeypatch, tmp_path):
    spec = tiny_spec()
    rows = np.random.default_rng(0).normal(size=(1, spec.num_classes)).astype(np.float32)
    reference = Reference((Case("noise", np.zeros((3, *spec.preprocessing.image_size), np.uint8)),), rows)
    artifact = write_artifact(tmp_path / "one", spec, reference)
    fake_format(monkeypatch, reference)()
    (verdict,) = judge_runs(run_artifacts(artifact)).verdicts
    assert "outputs" not in verdict.to_json()
    assert verdict.worst_output is verdict.by_output() is None
    names = msgspec.json.decode(msgspec.json.encode(spec))
    assert {"features", "scores"}.isdisjoint(names)


def test_a_device_report_names_every_output(tmp_path, reference):
    from device_reports import device_report, device_run

    artifact = write_artifact(tmp_path / "both", SPEC, reference)
    logits, features = ([part[i].tobytes() for i in range(4)] for part in reference.split(reference.answers))

    def run(**outputs):
        run = device_run(write_artifact(tmp_path / f"{len(list(tmp_path.iterdir()))}", tiny_spec(), _plain(reference)))
        cases = [CaseOutputs(name=f"case {i}", outputs={n: each[i] for n, each in outputs.items()}) for i in range(4)]
        return msgspec.structs.replace(run, cases=tuple(cases))

    (found,) = device_runs(artifact, device_report(artifact, run(features=features, logits=logits)))
    assert np.array_equal(found.outputs, reference.answers)
    with pytest.raises(RequestError, match="gives for 'case 0' the outputs logits, not 'logits' and 'features'"):
        device_runs(artifact, device_report(artifact, run(logits=logits)))
    with pytest.raises(RequestError, match="20 bytes of features, not 48: 12 float32 values"):
        device_runs(artifact, device_report(artifact, run(logits=logits, features=logits)))


def _plain(reference):
    return Reference(reference.cases, np.ascontiguousarray(reference.answers[:, : SPEC.num_classes]))


def test_integers_are_judged_by_each_output(reference):
    answers = reference.answers * np.repeat([1.0, 0.2], [SPEC.num_classes, 12]).astype(np.float32)
    judged = judge_outputs(views_of(SPEC, reference, answers), THRESHOLDS["int8"], runtime="here")
    assert judged.rejected
    assert judged.agreement == 1.0
    assert judged.overall_sqnr_db == pytest.approx(1.9, abs=0.1)
    assert [reason.split(":")[0] for reason in judged.reasons] == ["features"]


def test_a_benchmark_compares_every_output(reference):
    first = dataclasses.replace(reference, cases=reference.cases[:1], answers=reference.answers[:1])
    question = Question(first, SPEC, macs=1)
    assert question.sqnr_db(_spoilt(reference.answers[0], features=0.0)) == pytest.approx(0.0)
    assert question.sqnr_db(reference.answers[0]) == 200.0
