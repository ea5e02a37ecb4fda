"""The apps and the SDK find the same objects in the same answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import REPOSITORY

from mobilevit_sdk.data.preprocessing import seen_region
from mobilevit_sdk.spec import Preprocessing
from mobilevit_sdk.tasks.detection.found import found_objects

CASES = json.loads((REPOSITORY / "tests/golden/detections.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_objects_are_those_of_the_golden_answers(case):
    resizing = case["resizing"]
    squash = resizing["mode"] == "squash"
    preprocessing = Preprocessing(
        image_size=tuple(resizing["size"] if squash else resizing["center_crop"]),
        resize_size=resizing["size"][0],
        resize_mode="squash" if squash else "shorter",
    )
    size = tuple(case["picture"])
    logits, boxes = np.float32(case["logits"]), np.float32(case["boxes"])
    found = found_objects(logits, boxes, seen_region(size, preprocessing), size).above(case["least"] - 1e-7)
    assert found.classes.tolist() == [each["index"] for each in case["found"]]
    assert found.probabilities == pytest.approx([each["share"] for each in case["found"]], abs=1e-6)
    for box, each in zip(found.boxes / (*size, *size), case["found"], strict=True):
        edges = [each["left"], each["top"], each["right"] - each["left"], each["bottom"] - each["top"]]
        assert box == pytest.approx(edges, abs=1e-6)
