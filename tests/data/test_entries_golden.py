"""Which input size a picture takes: the cases that all apps are tested with."""

from __future__ import annotations

import json

import pytest
from helpers import REPOSITORY

from mobilevit_sdk.spec import nearest_size

CASES = [
    (group["sizes"], (picture["width"], picture["height"]), picture["entry"])
    for group in json.loads((REPOSITORY / "tests/golden/entries.json").read_text())
    for picture in group["pictures"]
]


@pytest.mark.parametrize(("sizes", "picture", "entry"), CASES)
def test_a_picture_takes_the_nearest_aspect_ratio_and_of_equals_the_first(sizes, picture, entry):
    assert nearest_size(*picture, sizes) is sizes[entry]
