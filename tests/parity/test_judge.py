"""Integers have one judge: what it asks, what decides, and that edge cases do not."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from fake_format import fake_format
from helpers import tiny_model, tiny_reference, tiny_spec, write_artifact

from mobilevit_sdk.artifacts.artifact import Artifact, open_artifact, write_manifest
from mobilevit_sdk.artifacts.quantization_record import QuantizationRecord
from mobilevit_sdk.artifacts.reference import Reference, reference_of
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.parity import THRESHOLDS, compare_runs, judge, verify
from mobilevit_sdk.parity.judge import judge_task
from mobilevit_sdk.parity.runs import Run
from mobilevit_sdk.quantization.search import Goal
from mobilevit_sdk.quantization.sensitivity import Point
from mobilevit_sdk.spec import Origin

INT8 = THRESHOLDS["int8"]


def answers(images, flipped, *, classes=10, noise=0.01):
    """Scores of images, and others of which `flipped` have another best class, by far more than a tie."""
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(images, classes))
    reference[np.arange(images), rng.integers(0, classes, images)] += 8
    for row in range(flipped):
        order = np.argsort(-reference[row])
        reference[row, order[1]] = reference[row, order[0]] - 0.5
    outputs = reference + noise * rng.normal(size=reference.shape)
    for row in range(flipped):
        order = np.argsort(-reference[row])
        outputs[row, order[:2]] = reference[row, order[1::-1]]
    return reference, outputs


@pytest.mark.parametrize(
    ("images", "flipped", "rejected"),
    [(41, 2, False), (41, 3, False), (41, 4, True), (250, 17, False), (250, 18, False), (250, 19, True)],
)
def test_a_share_that_is_short_by_less_than_one_image_does_not_decide(images, flipped, rejected):
    judged = judge_task(*answers(images, flipped), INT8, runtime="here")
    assert judged.agreement == pytest.approx(1 - flipped / images)
    assert judged.overall_sqnr_db > INT8.task_sqnr_db
    assert judged.rejected is rejected
    if rejected:
        (reason,) = judged.reasons
        assert reason == f"{images - flipped} of {images} images keep their class, at least 93% must (task_agreement)"


def test_where_the_images_are_too_few_the_noise_decides():
    quiet, loud = (judge_task(*answers(41, 3, noise=noise), INT8, runtime="here") for noise in (0.01, 1.5))
    assert (quiet.rejected, loud.rejected) == (False, True)
    assert "one is 2.4 points, more than is short, so the SQNR decides" in quiet.in_words()
    assert any("is below 10 dB (task_sqnr_db)" in reason for reason in loud.reasons)


def test_the_advice_names_what_comes_next_and_the_bar():
    judged = judge_task(*answers(41, 9), INT8, runtime="here")
    for words in ("more images", "quantize --search", "train --qat", "[tool.mobilevit.parity.int8]"):
        assert words in judged.advice("int8")
    assert "more images" not in judge_task(*answers(200, 60), INT8, runtime="here").advice("int8")


def test_one_score_of_a_correlation_of_080_is_rejected_though_every_sign_is_the_same():
    rng = np.random.default_rng(0)
    reference = 20 + rng.normal(size=(200, 1))
    outputs = reference + 0.75 * rng.normal(size=reference.shape)
    judged = judge_task(reference, outputs, INT8, runtime="here")
    assert judged.agreement == 1
    assert judged.rejected
    assert not judge_task(reference, reference + 0.1 * (outputs - reference), INT8, runtime="here").rejected


def test_floats_are_not_judged_by_the_task():
    with pytest.raises(ValueError, match="integer precisions"):
        judge_task(*answers(41, 0), THRESHOLDS["fp16"], runtime="here")


@pytest.fixture(scope="module")
def reference():
    return tiny_reference()


def spoilt(reference, names):
    """The reference's answers with other ones for some cases."""
    rows = [row for row, case in enumerate(reference.cases) if any(name in case.name for name in names)]
    assert rows
    outputs = reference.answers.copy()
    outputs[rows] = -outputs[rows]
    return outputs


def run(tmp_path, reference, outputs, *, precision, trained=False, name="one"):
    artifact = write_artifact(tmp_path / name, tiny_spec(), reference, precision=precision)
    if trained:
        origin = Origin(source="a file", layout="own", sha256="0" * 64)
        artifact = Artifact(artifact.path, msgspec.structs.replace(artifact.manifest, origin=origin))
    return Run(artifact, "here", "1", outputs, reference)


@pytest.mark.parametrize("precision", THRESHOLDS)
def test_edge_cases_decide_for_floats_alone(tmp_path, reference, precision):
    edges = spoilt(reference, ("zeros", "ones", "extremes", "bright pixel", "noise"))
    verdict = judge(run(tmp_path, reference, edges, precision=precision))
    assert verdict.status == ("failed" if precision in ("fp32", "fp16") else "passed")
    assert verdict.agreement.cases == (27 if precision in ("fp32", "fp16") else 21)
    assert len(verdict.agreement.case_sqnr_db) == 27
    edges[20] = np.nan  # zeros
    assert "not finite" in judge(run(tmp_path, reference, edges, precision=precision, name="other")).reason


def test_a_photograph_that_is_broken_fails_integers_and_is_named(tmp_path, reference):
    outputs = spoilt(reference, ("china, gray", "noise"))
    verdict = judge(run(tmp_path, reference, outputs, precision="int8"))
    assert "on 'china, gray' is below 3 dB" in verdict.reason


def test_pairs_with_integers_leave_edge_cases_out_too(tmp_path, reference):
    first = run(tmp_path, reference, spoilt(reference, ("noise",)), precision="int8")
    second = run(tmp_path, reference, reference.answers, precision="fp32", name="two")
    (pair,) = compare_runs([first, second])
    assert (pair.status, pair.cases) == ("passed", 21)


def test_a_users_images_ask_the_judge_of_the_task(tmp_path):
    model, spec = tiny_model()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    own = reference_of(model, spec.preprocessing, tuple(Case(str(i), each) for i, each in enumerate(pixels)))
    noisy = own.answers[:, ::-1].copy()
    judged = judge_task(own.answers, noisy, INT8, runtime="here")
    assert judged.rejected
    verdict = judge(run(tmp_path, own, noisy, precision="int8", trained=True))
    assert verdict.reason == "; ".join(judged.reasons)
    assert "task_" not in (judge(run(tmp_path, own, noisy, precision="int8", name="random")).reason or "")


def test_a_rejected_artifact_does_not_pass_by_being_named(tmp_path, reference, monkeypatch):
    fake_format(monkeypatch, reference)()
    artifact = write_artifact(tmp_path / "one.rejected", tiny_spec(), reference, precision="int8")
    record = QuantizationRecord(
        recipe=QuantizationRecipe(),
        images="photos",
        data_free=False,
        calibrated_with=80,
        images_sha256="0" * 64,
        judgment=judge_task(*answers(41, 9), INT8, runtime="here"),
    )
    write_manifest(artifact.path.parent, msgspec.structs.replace(artifact.manifest, quantization=record))
    (verdict,) = verify([open_artifact(artifact.path.parent)])
    assert verdict.status == "failed"
    assert "rejected when it was converted: 32 of 41 images keep their class, at least 93% must" in verdict.reason


POINT = Point(
    float_modules=(),
    size=0.3,
    agreement=0.99,
    overall_sqnr_db=30.0,
    worst_sqnr_db=12.0,
    median_sqnr_db=30.0,
    top1=0.8,
    top1_drop=0.4,
    rejections=(),
)


@pytest.mark.parametrize(
    ("images", "changes", "holds"),
    [
        (200, {}, True),
        (200, {"top1_drop": 0.6}, False),
        (200, {"rejections": ("too few classes",)}, False),  # what convert rejects reaches no goal
        (41, {"top1_drop": 0.6}, True),  # which 41 images cannot tell from 0.4
        (41, {"agreement": 40 / 41}, True),
        (41, {"agreement": 40 / 41, "overall_sqnr_db": 19.0}, False),
        (41, {"agreement": 39 / 41}, False),
        (41, {"agreement": 1.0, "overall_sqnr_db": 19.0}, True),
        (41, {"agreement": None, "top1_drop": None}, True),
        (41, {"agreement": None, "top1_drop": None, "overall_sqnr_db": 19.0}, False),
        (400, {"top1_drop": None, "agreement": 0.975}, False),
    ],
)
def test_the_goal_of_a_search_asks_only_what_the_images_can_tell(images, changes, holds):
    assert Goal().holds(msgspec.structs.replace(POINT, **changes), images) is holds


def test_each_of_several_outputs_has_to_reach_the_goal():
    judged = judge_task(*answers(200, 0), INT8, runtime="here")
    worse = judge_task(*answers(200, 6), INT8, runtime="here")  # 97%: no rejection, and below the goal
    assert (judged.agreement, worse.agreement, worse.rejected) == (1.0, 0.97, False)
    for outputs, holds in (({"logits": judged}, True), ({"logits": judged, "pets": worse}, False)):
        assert Goal().holds(msgspec.structs.replace(POINT, outputs=outputs), 200) is holds


def test_cases_keep_their_role_beside_the_file(tmp_path, reference):
    stored = write_artifact(tmp_path / "one", tiny_spec(), reference).reference()
    assert [case.role for case in stored.cases] == ["view"] * 20 + ["edge"] * 6 + ["view"]
    assert dataclasses.replace(stored, answers=reference.answers).cases[3].name == reference.cases[3].name
    assert isinstance(stored, Reference)
