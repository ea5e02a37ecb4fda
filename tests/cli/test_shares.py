"""Shares are never rounded up: what is not all is never 100%."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.text import of_all, percent


@given(total=st.integers(1, 5000), data=st.data())
def test_only_all_is_100_percent(total, data):
    found = data.draw(st.integers(0, total))
    shown = percent(found / total)
    assert (shown == "100%") == (found == total)
    assert 0 <= 100 * found / total - float(shown.rstrip("%")) < 0.1 + 1e-9
    assert of_all(found / total, total, "cases") == f"{found:,} of {total:,} cases"


@pytest.mark.parametrize(
    ("share", "shown"), [(0.9996, "99.9%"), (0.29, "29%"), (1.0, "100%"), (0, "0%"), (0.93, "93%"), (None, "-")]
)
def test_a_share_is_shown_to_a_tenth(share, shown):
    assert percent(share) == shown


def test_nearly_all_is_a_number_of_them():
    assert of_all(0.9996, 2500, "images") == "2,499 of 2,500 images"
