"""The numbers that verdicts are made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mobilevit_sdk.parity.metrics import CEILING_DB, compare, same_best

seeds = st.integers(0, 1000)
heads = st.integers(2, 12)


def answers(seed, classes, *, cases=9, noise=0.1):
    """Scores of random images, and the same with noise."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(cases, classes))
    return reference, reference + noise * rng.normal(size=reference.shape)


def test_metrics_are_those_computed_by_hand():
    reference = np.array([[3.0, -3.0, 0.0, 0.0], [0.0, 0.0, 2.0, -2.0]], np.float32)
    outputs = np.array([[3.0, -3.0, 0.5, -0.5], [0.0, 2.0, 0.0, -2.0]], np.float32)
    found = compare(reference, outputs)
    assert found.case_sqnr_db == pytest.approx((10 * math.log10(18 / 0.5), 10 * math.log10(8 / 8)))
    assert (found.sqnr_db.worst, found.sqnr_db.median) == pytest.approx((0, 5 * math.log10(36)))
    assert found.max_abs_diff == 2.0
    assert found.cosine == pytest.approx(4 / 8)
    assert (found.top1_agreement, found.top1_ties) == (0.5, 0)
    assert found.cases == 2


def test_top5_counts_how_many_of_the_five_best_are_found():
    reference = np.arange(10.0, dtype=np.float32)[None]
    outputs = reference.copy()
    outputs[0, 5], outputs[0, 0] = 0, 5  # the fifth best trades places with the last
    assert compare(reference, outputs).top5_agreement == pytest.approx(0.8)


def test_one_bad_case_among_many_is_the_worst_and_not_the_median():
    reference = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
    outputs = reference * np.float32(1 + 1e-6)
    outputs[17] = -reference[17]
    found = compare(reference, outputs)
    assert found.sqnr_db.worst < 0 < 100 < found.sqnr_db.median
    assert found.case_sqnr_db.index(found.sqnr_db.worst) == 17


@given(noise_db=st.floats(10, 120), seed=seeds)
def test_sqnr_recovers_the_noise_that_was_added(noise_db, seed):
    reference, noise = (each - each.mean() for each in np.random.default_rng(seed).normal(size=(2, 1, 64)))
    noise *= np.linalg.norm(reference) / np.linalg.norm(noise) * 10 ** (-noise_db / 20)
    assert compare(reference, reference + noise).sqnr_db.worst == pytest.approx(noise_db, abs=1e-6)


@given(seed=seeds, classes=heads, offset=st.floats(-1e4, 1e4), noise=st.sampled_from([1e-3, 0.1, 1.0]))
def test_an_offset_that_all_scores_share_is_no_signal(seed, classes, offset, noise):
    reference, outputs = answers(seed, classes, noise=noise)
    plain, moved = compare(reference, outputs), compare(reference + offset, outputs + offset)
    signal, error = (np.square(each - each.mean(1, keepdims=True)).sum(1) for each in (reference, outputs - reference))
    if classes == 2:
        signal = np.square(np.diff(reference) - np.diff(reference).mean())[:, 0] / 2
    bound = 10 * np.log10(np.maximum(signal, np.mean(signal) if classes == 2 else np.median(signal)) / error)
    assert (moved.case_sqnr_db <= bound + 1e-4).all()
    assert moved.overall_sqnr_db <= 10 * np.log10(signal.sum() / error.sum()) + 1e-4
    assert moved.top1_agreement == plain.top1_agreement
    if abs(offset) > 100:  # the scores as they are would look far better
        assert moved.case_sqnr_db == pytest.approx(bound, abs=1e-4)


@given(seed=seeds, classes=heads, offset=st.floats(0.01, 100))
def test_an_offset_in_the_outputs_alone_is_noise(seed, classes, offset):
    reference, _ = answers(seed, classes)
    found = compare(reference, reference + offset)
    assert found.sqnr_db.worst <= 10 * math.log10((reference**2).sum(1).max() / (classes * offset**2)) + 1e-6
    assert found.top1_agreement == 1


@given(seed=seeds, classes=heads)
def test_the_order_of_classes_and_of_cases_changes_nothing(seed, classes):
    reference, outputs = answers(seed, classes, noise=0.5)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(reference)), rng.permutation(classes)
    found, other = compare(reference, outputs), compare(reference[rows][:, columns], outputs[rows][:, columns])
    assert other.sqnr_db.worst == pytest.approx(found.sqnr_db.worst)
    assert other.sqnr_db.median == pytest.approx(found.sqnr_db.median)
    assert (other.top1_agreement, other.top1_ties) == (found.top1_agreement, found.top1_ties)
    assert other.case_sqnr_db == pytest.approx(np.array(found.case_sqnr_db)[rows])


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_an_image_on_which_the_classes_come_near_each_other_is_no_fault(classes):
    reference, noise = answers(1, classes, cases=27, noise=1e-3)
    reference[5] = 1.0 + 1e-4 * reference[5]  # undecided, with a sum that is not small
    found = compare(reference, reference + noise - answers(1, classes, cases=27)[0])
    assert found.case_sqnr_db[5] > 50


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_flip_of_classes_as_near_as_the_error_is_a_tie(classes):
    reference, outputs = answers(4, classes, cases=27, noise=1e-3)
    reference[4, :2] = reference[4].max() + 1, reference[4].max() + 1 + 1e-4
    outputs[4] = reference[4]
    outputs[4, :2] = reference[4, 1::-1]  # the two trade places
    found = compare(reference, outputs)
    assert (found.top1_agreement, found.top1_ties) == (1, 1)
    reference[4, 1] += 0.1  # a hundred times the error
    found = compare(reference, outputs)
    assert (found.top1_agreement, found.top1_ties) == (26 / 27, 0)


def test_noise_is_no_excuse_beyond_what_fp16_may_have():
    reference, outputs = answers(0, 10, cases=300, noise=0.5)
    same, tied = same_best(reference, outputs)
    best = np.sort(reference, axis=1)
    assert (~same).mean() > 0.2
    assert (best[tied, -1] - best[tied, -2] < 0.1).all()
    assert compare(reference, outputs).top1_agreement < 0.8


@given(seed=seeds, level=st.floats(-50, 50))
@example(seed=657, level=0.0)  # the size of the score decides, not its distance from the mean
def test_one_score_is_compared_by_its_sign_and_its_spread_over_the_images(seed, level):
    rng = np.random.default_rng(seed)
    reference = level + rng.normal(size=(40, 1))
    noise = 0.75 * rng.normal(size=reference.shape)  # a correlation of 0.80
    found = compare(reference, reference + noise)
    spread = np.maximum(np.square(reference - reference.mean()), reference.var())
    size = np.maximum(np.square(reference), np.square(reference).mean())
    signal = np.minimum(spread, size)
    assert found.sqnr_db.worst == pytest.approx(10 * np.log10((signal / np.square(noise)).min()))
    assert found.sqnr_db.worst < 3  # the threshold of int8
    assert found.overall_sqnr_db == pytest.approx(10 * math.log10(reference.var() / np.square(noise).mean()))
    assert found.cosine == pytest.approx(np.corrcoef(reference[:, 0], (reference + noise)[:, 0])[0, 1])
    same = ((reference > 0) == (reference + noise > 0)).mean()
    assert found.top1_agreement == pytest.approx(same + found.top1_ties / 40)
    assert found.top5_agreement is None


def test_one_score_at_the_border_of_yes_and_no_is_a_tie():
    reference = np.linspace(-2, 2, 27)[:, None]
    outputs = reference + 1e-3
    reference[13], outputs[13] = -5e-4, 5e-4
    found = compare(reference, outputs)
    assert (found.top1_agreement, found.top1_ties) == (1, 1)
    assert found.sqnr_db.worst > 60


@pytest.mark.parametrize("classes", [1, 2])
def test_one_number_that_is_the_same_for_every_image_says_nothing(classes):
    reference = np.tile([7.0, 1.0][:classes], (9, 1))
    assert compare(reference, reference).sqnr_db.worst == CEILING_DB
    assert compare(reference, reference + np.arange(classes) + 1e-3).sqnr_db.worst == -CEILING_DB


@given(seed=seeds, classes=st.integers(1, 12))
def test_constant_outputs_have_no_signal(seed, classes):
    reference, _ = answers(seed, classes)
    found = compare(reference + 1000, np.full_like(reference, 1000))
    assert found.sqnr_db.worst <= 0.01
    assert found.overall_sqnr_db <= 0.01


def test_features_have_no_best_class_and_any_shape():
    reference = np.random.default_rng(0).normal(size=(4, 8, 3, 3))
    found = compare(reference, reference * 1.001, kind="features")
    assert found.sqnr_db.worst == pytest.approx(60)
    assert (found.top1_agreement, found.top1_ties, found.top5_agreement, found.top5_worst) == (None,) * 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("classes", [1, 2, 6])
def test_scores_that_are_not_finite_are_the_worst_there_is(bad, classes):
    reference = np.random.default_rng(0).normal(size=(3, classes)).astype(np.float32)
    outputs = reference.copy()
    outputs[1, -1] = bad
    found = compare(reference, outputs)
    assert found.sqnr_db.worst == -CEILING_DB
    assert found.cosine == -1
    assert (found.top1_agreement, found.top1_ties) == (2 / 3, 0)


@pytest.mark.parametrize("classes", [1, 5])
def test_equal_scores_reach_the_ceiling_and_identical_ones_the_floor(classes):
    ones, zeros = np.ones((1, classes)), np.zeros((1, classes))
    assert compare(ones, ones).sqnr_db.worst == CEILING_DB
    assert compare(zeros, ones).sqnr_db.worst == -CEILING_DB
    if classes > 1:  # no class differs from another
        noise = np.arange(classes) * 1e-6
        assert compare(ones, ones + noise).sqnr_db.worst == -CEILING_DB


@pytest.mark.parametrize("shape", [(0, 5), (3, 4)])
def test_nothing_to_compare_is_an_error_and_no_verdict(shape):
    with pytest.raises(ValueError, match="cannot compare"):
        compare(np.zeros(shape if shape[0] == 0 else (3, 5)), np.zeros(shape))
