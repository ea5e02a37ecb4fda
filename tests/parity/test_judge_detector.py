"""A detector in integers is judged by the objects that the float network finds: their class, their place, and AP."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from drawn_shapes import shape_pictures

from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.models.registry import model_spec, spec_at_size
from mobilevit_sdk.parity import THRESHOLDS
from mobilevit_sdk.parity.judge import judge_each, worst_judgment
from mobilevit_sdk.parity.views import views_of
from mobilevit_sdk.quantization.judgment import with_precision
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks.detection.targets import box_targets

QUERIES, CLASSES, PICTURES = 6, 3, 12
INT8 = THRESHOLDS["int8"]


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    made = spec_at_size(model_spec("detr_resnet50", num_classes=CLASSES, num_queries=QUERIES), 128, 128)
    return made.with_labels(("circle", "square", "triangle"), "a test")


@pytest.fixture(scope="module")
def perfect() -> np.ndarray:
    """What a network that finds every shape answers, [pictures, values]: logits, then boxes."""
    dataset = shape_pictures(PICTURES, seed=4)
    targets = box_targets(dataset, range(PICTURES))
    random = np.random.default_rng(0)
    logits = random.normal(0, 0.3, (PICTURES, QUERIES, CLASSES + 1)).astype(np.float32)
    logits[..., -1] += 6
    boxes = random.uniform(0.2, 0.8, (PICTURES, QUERIES, 4)).astype(np.float32)
    for row, (classes, placed) in enumerate(zip(targets.classes, targets.boxes, strict=True)):
        for query, (label, box) in enumerate(zip(classes.tolist(), placed.numpy(), strict=True)):
            logits[row, query, label] += 12
            boxes[row, query] = box
    return np.concatenate([logits.reshape(PICTURES, -1), boxes.reshape(PICTURES, -1)], 1)


def judged(spec: ModelSpec, expected: np.ndarray, actual: np.ndarray) -> dict:
    reference = Reference((), expected, ((QUERIES, CLASSES + 1), (QUERIES, 4)))
    return judge_each(views_of(spec, reference, actual), INT8, runtime="here")


def split(answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    end = QUERIES * (CLASSES + 1)
    return answers[:, :end].reshape(PICTURES, QUERIES, -1), answers[:, end:].reshape(PICTURES, QUERIES, 4)


def test_what_stays_as_it_is_is_accepted(spec: ModelSpec, perfect: np.ndarray) -> None:
    found = judged(spec, perfect, perfect + np.float32(1e-3))
    assert not any(each.rejected for each in found.values())
    objects = sum(len(each) for each in shape_pictures(PICTURES, seed=4).objects or ())
    assert {each.objects for each in found.values()} == {objects}
    assert worst_judgment(found).agreement == 1
    assert "objects keep their class and place" in worst_judgment(found).in_words()


def test_objects_of_another_class_reject_it_and_queries_without_an_object_do_not(
    spec: ModelSpec, perfect: np.ndarray
) -> None:
    changed, nothing = perfect.copy(), perfect.copy()
    logits, _ = split(changed)
    logits[:4, 0] = np.roll(logits[:4, 0], 1, axis=-1)
    found = judged(spec, perfect, changed)["logits"]
    assert found.rejected
    assert "objects keep their class" in found.reasons[0]
    quiet, _ = split(nothing)
    empty = quiet.argmax(-1) == CLASSES
    quiet[empty] += np.array([0.5, 0, 0, 0], np.float32)
    assert not judged(spec, perfect, nothing)["logits"].rejected


def test_boxes_in_another_place_reject_it(spec: ModelSpec, perfect: np.ndarray) -> None:
    changed = perfect.copy()
    _, boxes = split(changed)
    boxes[:4, 0, :2] += 0.5 * boxes[:4, 0, 2:]  # half a box aside, both ways: an IoU of 1/7
    found = judged(spec, perfect, changed)
    assert not found["logits"].rejected
    assert found["boxes"].rejected
    assert "keep their place" in found["boxes"].reasons[0]
    worst = worst_judgment(found)
    assert worst.rejected
    assert worst.agreement == found["boxes"].agreement


def test_average_precision_is_reported_where_there_are_boxes_of_its_classes(
    spec: ModelSpec, perfect: np.ndarray
) -> None:
    dataset = shape_pictures(PICTURES, seed=4)
    changed = perfect.copy()
    logits, _ = split(changed)
    logits[:, 0, CLASSES] += 30  # one object of each picture is lost
    judgment = worst_judgment(judged(spec, perfect, changed))
    told = with_precision(judgment, perfect, changed, dataset, spec)
    assert told.ap_float == pytest.approx(1)
    assert told.ap_drop is not None
    assert 10 < told.ap_drop < 60
    assert f"{-told.ap_drop:.2f} points" in told.in_words()
    other = dataclasses.replace(dataset, class_names=("a", "b", "c"))
    assert with_precision(judgment, perfect, changed, other, spec) == judgment
    assert with_precision(judgment, perfect, changed, None, spec) == judgment
