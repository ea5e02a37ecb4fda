"""The numbers that verdicts are made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.parity.metrics import CEILING_DB, compare


def test_metrics_are_those_computed_by_hand():
    reference = np.array([[3.0, 4.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0, 2.0]], np.float32)
    outputs = np.array([[3.0, 4.0, 0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 2.0, 1.0]], np.float32)
    found = compare(reference, outputs)
    assert found.case_sqnr_db == pytest.approx((10 * math.log10(25 / 0.25), 10 * math.log10(5 / 2)))
    assert (found.sqnr_db.worst, found.sqnr_db.median) == pytest.approx((3.9794, 11.9897), abs=1e-3)
    assert found.max_abs_diff == 1.0
    assert found.cosine == pytest.approx(4 / 5)
    assert found.top1_agreement == 0.5
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


@given(noise_db=st.floats(10, 120), seed=st.integers(0, 100))
def test_sqnr_recovers_the_noise_that_was_added(noise_db, seed):
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(1, 64))
    noise = rng.normal(size=(1, 64))
    noise *= np.linalg.norm(reference) / np.linalg.norm(noise) * 10 ** (-noise_db / 20)
    assert compare(reference, reference + noise).sqnr_db.worst == pytest.approx(noise_db, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_the_worst_there_is(bad):
    reference = np.ones((2, 6), np.float32)
    outputs = reference.copy()
    outputs[1, 2] = bad
    found = compare(reference, outputs)
    assert found.sqnr_db.worst == -CEILING_DB
    assert found.cosine == -1


def test_equal_scores_reach_the_ceiling_and_a_zero_reference_the_floor():
    ones, zeros = np.ones((1, 5)), np.zeros((1, 5))
    assert compare(ones, ones).sqnr_db.worst == CEILING_DB
    assert compare(zeros, ones).sqnr_db.worst == -CEILING_DB


@pytest.mark.parametrize("shape", [(0, 5), (3, 4)])
def test_nothing_to_compare_is_an_error_and_no_verdict(shape):
    with pytest.raises(ValueError, match="cannot compare"):
        compare(np.zeros(shape if shape[0] == 0 else (3, 5)), np.zeros(shape))
