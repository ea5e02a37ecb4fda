"""The range of a tensor from a streamed histogram."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.formats.ranges import RangeEstimator

METHODS = ("minmax", "percentile", "entropy")
finite = st.floats(-1e6, 1e6, width=32)
REACH = 1e-3  # of values that are more than rounding


def ranged(batches, **recipe):
    estimator = RangeEstimator(QuantizationRecipe(**recipe))
    for batch in batches:
        estimator.observe(np.asarray(batch, np.float32))
    return estimator.range()


@given(st.lists(st.lists(finite, min_size=1, max_size=30), min_size=1, max_size=6), st.sampled_from(METHODS))
def test_a_range_holds_zero_and_lies_within_the_values(batches, method):
    low, high = ranged(batches, ranges=method)
    values = np.float32([value for batch in batches for value in batch])
    assume(np.abs(values).max() > REACH)
    assert low <= 0 <= high
    assert low >= min(values.min(), 0) * (1 + 1e-6)
    assert high <= max(values.max(), 0) * (1 + 1e-6)


@given(st.lists(st.lists(finite, min_size=1, max_size=30), min_size=1, max_size=6))
def test_minmax_takes_every_value_in(batches):
    values = np.float32([value for batch in batches for value in batch])
    assume(np.abs(values).max() > REACH)
    assert ranged(batches, ranges="minmax") == (min(values.min(), 0), max(values.max(), 0))


@given(st.integers(0, 2**32 - 1), st.floats(51, 99))
def test_percentiles_of_a_streamed_histogram_are_those_of_all_values(seed, percentile):
    random = np.random.default_rng(seed)
    batches = [random.normal(size=2000) * scale for scale in random.uniform(0.1, 5, 6)]
    low, high = ranged(batches, ranges="percentile", percentile=percentile)
    values = np.concatenate(batches)
    span = values.max() - values.min()
    assert low == pytest.approx(np.percentile(values, 100 - percentile), abs=0.01 * span)
    assert high == pytest.approx(np.percentile(values, percentile), abs=0.01 * span)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_one_value_far_away_is_left_out(method):
    values = np.random.default_rng(0).normal(size=200_000)
    values[17] = 60
    low, high = ranged(np.split(values, 10), ranges=method, percentile=99.99)
    assert -6 < low < -3
    assert 3 < high < 12


def test_values_that_never_change_have_a_range():
    for method in METHODS:
        assert ranged([[0.0, 0.0], [0.0]], ranges=method) == (0, 1)  # a finer step than its layer's XNNPACK refuses
        low, high = ranged([[2.5] * 5, [2.5]], ranges=method)
        assert low == 0
        assert high == pytest.approx(2.5, rel=0.02)


def test_a_value_that_is_not_finite_is_an_error():
    with pytest.raises(ValueError, match="not finite"):
        ranged([[1.0, np.nan]])


def test_no_values_are_an_error():
    with pytest.raises(ValueError, match="no values"):
        RangeEstimator(QuantizationRecipe()).range()
