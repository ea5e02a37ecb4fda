"""Detection: what is found where, average precision by hand, and augmentation that moves boxes with the pixels."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
import torch
from drawn_shapes import shape_pictures as pictures

from mobilevit_sdk.data.objects import Objects
from mobilevit_sdk.data.preprocessing import seen_region
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.registry import model_spec, spec_at_size
from mobilevit_sdk.recipe import DETECTION_RECIPE, Recipe
from mobilevit_sdk.spec import ModelSpec, Preprocessing
from mobilevit_sdk.tasks import Detection
from mobilevit_sdk.tasks.detection import augment as augmentation
from mobilevit_sdk.tasks.detection.augment import augment_boxes
from mobilevit_sdk.tasks.detection.average_precision import average_precision
from mobilevit_sdk.tasks.detection.found import Found, found_objects
from mobilevit_sdk.tasks.detection.targets import BoxTargets, box_targets
from mobilevit_sdk.tasks.draws import Draws, image_seeds

NAMES = ("cat", "dog")
APPROXIMATELY_1 = pytest.approx(1)  # pycocotools adds a tiny number to what it divides by


def objects(boxes: list[list[float]], classes: list[int], crowd: list[int] | None = None) -> Objects:
    is_crowd = np.array(crowd or [0] * len(classes), bool)
    return Objects(np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64), is_crowd, (100, 80))


def found(boxes: list[list[float]], classes: list[int], probabilities: list[float]) -> Found:
    return Found(np.array(classes, np.int64), np.array(probabilities), np.array(boxes, np.float64).reshape(-1, 4))


def spec(labels: tuple[str, ...] = NAMES, queries: int = 4, side: int = 64) -> ModelSpec:
    made = model_spec("detr_resnet50", num_classes=len(labels), num_queries=queries)
    return spec_at_size(made, side, side).with_labels(labels, "a test")


def test_boxes_are_found_on_the_whole_picture() -> None:
    logits = np.array([[0.0, 0.0, 5.0], [3.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    boxes = np.array([[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 0.2], [0.9, 0.9, 0.4, 0.4]])
    seen = found_objects(logits, boxes, (0, 0, 200, 100), (200, 100))
    assert seen.classes.tolist() == [1, 0, 0]
    e3, e5, e9 = np.exp([3.0, 5.0, 9.0])
    np.testing.assert_allclose(seen.probabilities, [e9 / (e9 + 2), e3 / (e3 + 2), 1 / (e5 + 2)])
    np.testing.assert_allclose(seen.boxes[:2], [[140, 70, 60, 30], [0, 40, 100, 20]])
    assert len(seen.above(0.5).classes) == 2


def test_boxes_of_a_cropped_picture_are_moved_back() -> None:
    preprocessing = Preprocessing(image_size=(50, 50), resize_size=100)
    region = seen_region((400, 200), preprocessing)
    assert region == (150, 50, 100, 100)  # halved: the crop holds 100 x 100 of its pixels
    seen = found_objects(np.array([[9.0, 0.0]]), np.array([[0.5, 0.5, 0.5, 1.0]]), region, (400, 200))
    np.testing.assert_allclose(seen.boxes, [[175, 50, 50, 100]])


def test_equal_probabilities_keep_the_order_of_the_queries() -> None:
    seen = found_objects(
        np.zeros((3, 3)), np.array([[0.1 * row, 0.5, 0.1, 0.1] for row in (1, 2, 3)]), (0, 0, 1, 1), (1, 1)
    )
    np.testing.assert_allclose(seen.boxes[:, 0], [0.05, 0.15, 0.25])


def test_average_precision_of_right_and_of_wrong_answers() -> None:
    known = [objects([[10, 10, 20, 20], [50, 10, 20, 20]], [0, 1]), objects([], [])]
    right = [found([[10, 10, 20, 20], [50, 10, 20, 20]], [0, 1], [0.9, 0.8]), found([], [], [])]
    best = average_precision(known, right, NAMES)
    assert (best.ap, best.ap50, best.recall, best.images) == (APPROXIMATELY_1, APPROXIMATELY_1, 1, 2)
    assert best.by_class == {"cat": APPROXIMATELY_1, "dog": APPROXIMATELY_1}
    # a dog that is called a cat, likelier than the cat: half of the cats' precision, and no dog
    wrong = [found([[10, 10, 20, 20], [50, 10, 20, 20]], [0, 0], [0.8, 0.9]), found([], [], [])]
    assert average_precision(known, wrong, NAMES).by_class == {"cat": pytest.approx(0.5), "dog": 0}


def test_average_precision_asks_how_well_boxes_overlap() -> None:
    known = [objects([[0, 0, 20, 10]], [0])]
    # 20 x 10 and 14 x 10 within it: an IoU of 0.7, right at 0.5, 0.55, 0.6, 0.65 and 0.7
    seen = average_precision(known, [found([[0, 0, 14.0001, 10]], [0], [0.9])], NAMES)
    assert (seen.ap, seen.ap50, seen.ap75) == (pytest.approx(0.5), APPROXIMATELY_1, 0)


def test_average_precision_counts_the_same_object_once() -> None:
    known = [objects([[0, 0, 20, 10], [50, 50, 10, 10]], [0, 0])]
    twice = [found([[0, 0, 20, 10], [0, 0, 20, 10], [50, 50, 10, 10]], [0, 0, 0], [0.9, 0.8, 0.7])]
    once = [found([[0, 0, 20, 10], [50, 50, 10, 10]], [0, 0], [0.9, 0.7])]
    assert average_precision(known, once, NAMES).ap == APPROXIMATELY_1
    assert 0.8 < average_precision(known, twice, NAMES).ap < 0.9


def test_a_crowd_is_neither_right_nor_wrong() -> None:
    known = [objects([[0, 0, 20, 10], [40, 40, 50, 40]], [0, 0], [0, 1])]
    seen = [found([[0, 0, 20, 10], [45, 45, 10, 10], [60, 60, 10, 10]], [0, 0, 0], [0.7, 0.9, 0.8])]
    assert average_precision(known, seen, NAMES).ap == APPROXIMATELY_1


def test_nothing_known_and_nothing_found_are_no_errors() -> None:
    nothing = average_precision([objects([], [])], [found([], [], [])], NAMES)
    assert (nothing.ap, nothing.by_class, nothing.not_finite) == (0, {}, 0)
    unanswered = average_precision([objects([[0, 0, 20, 10]], [0])], [None], NAMES)
    assert (unanswered.ap, unanswered.not_finite) == (0, 1)


def test_targets_are_shares_without_crowds() -> None:
    dataset = dataclasses.replace(
        pictures(1, seed=0), objects=[objects([[10, 20, 30, 40], [0, 0, 100, 80]], [1, 0], [0, 1])]
    )
    made = box_targets(dataset, [0])
    assert [each.tolist() for each in made.classes] == [[1]]
    np.testing.assert_allclose(made.boxes[0], [[0.25, 0.5, 0.3, 0.5]])


@pytest.mark.parametrize("seed", range(6))
def test_boxes_move_with_their_pixels(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(24, 3, 240, 320, dtype=torch.uint8)
    corners = torch.rand(24, 2, generator=generator) * 0.6
    sides = 0.1 + torch.rand(24, 2, generator=generator) * 0.25
    for image, (left, top), (width, height) in zip(images, corners.tolist(), sides.tolist(), strict=True):
        image[:, round(top * 240) : round((top + height) * 240), round(left * 320) : round((left + width) * 320)] = 255
    boxes = torch.cat([corners + sides / 2, sides], 1)
    targets = BoxTargets([torch.tensor([1])] * 24, [box[None] for box in boxes])
    recipe = Recipe(crop_scale=(0.2, 0.9), augment_ops=0)
    moved, answers = augment_boxes(
        images, targets, (180, 300), recipe, Draws(image_seeds(seed, 0, range(24)), generator)
    )
    whole = flipped = gone = 0
    for image, label, box, before in zip(moved, answers.classes, answers.boxes, boxes, strict=True):
        lit = (image[0] > 0.5).nonzero()
        if not len(box):
            gone += 1
            assert len(lit) < 300  # what is left of it is a pixel's edge
            continue
        assert label.tolist() == [1]
        (low, high) = (lit.min(0).values.flip(0), lit.max(0).values.flip(0) + 1)
        size = torch.tensor([300.0, 180.0])
        drawn = torch.cat([(low + high) / 2 / size, (high - low) / size])
        assert (drawn - box[0]).abs().max() < 0.02
        whole += bool(torch.allclose(box[0, 2:], before[2:], atol=1e-6))
        flipped += bool((box[0, 0] - (1 - before[0])).abs() < 1e-6)
    assert 5 < whole < 22  # about half is seen whole, and some of those are flipped
    assert flipped > 1
    assert gone < 10


def test_colors_change_and_boxes_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "CROPPED_SHARE", 0.0)
    images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    targets = BoxTargets([torch.tensor([0])] * 8, [torch.tensor([[0.5, 0.5, 0.5, 0.5]])] * 8)
    recipe = Recipe(augment_ops=2, augment_magnitude=0.9)
    moved, answers = augment_boxes(
        images, targets, (64, 64), recipe, Draws(image_seeds(1, 0, range(8)), torch.Generator())
    )
    assert all(torch.allclose(box, torch.tensor([[0.5, 0.5, 0.5, 0.5]]), atol=1e-6) for box in answers.boxes)
    # whether a picture is flipped is drawn anew: compare what a flip leaves
    assert (moved.mean((2, 3)) - images.float().mean((2, 3)) / 255).abs().max() > 0.02


def test_classes_are_matched_by_their_names() -> None:
    dataset = pictures(3, seed=0)  # circle, square, triangle
    matched = Detection(spec(("triangle", "hexagon", "square", "circle"))).match(dataset)
    assert dataset.objects is not None
    assert matched.objects is not None
    order = [3, 2, 0]
    for before, after in zip(dataset.objects, matched.objects, strict=True):
        assert after.classes.tolist() == [order[label] for label in before.classes]


def test_what_does_not_fit_is_refused_with_the_remedy() -> None:
    dataset = pictures(12, seed=0)
    with pytest.raises(RequestError, match="class 'triangle' that detr_resnet50 lacks"):
        Detection(spec(("circle", "square", "hexagon"))).match(dataset)
    with pytest.raises(RequestError, match="rename the categories"):
        Detection(spec(("a", "b", "c"))).match(dataset)
    labeled = dataclasses.replace(dataset, objects=None, labels=[0] * 12)
    with pytest.raises(RequestError, match=r"has classes, and no boxes.*COCO JSON"):
        Detection(spec()).match(labeled)
    shorter = msgspec.structs.replace(spec().preprocessing, resize_mode="shorter")
    with pytest.raises(RequestError, match="whole pictures"):
        Detection(msgspec.structs.replace(spec(), preprocessing=shorter)).match(dataset, training=True)


def test_more_objects_than_queries_are_noted() -> None:
    dataset = pictures(6, seed=0)
    assert dataset.objects is not None
    most = max(len(each.classes) for each in dataset.objects)
    assert not Detection(spec(("circle", "square", "triangle"), queries=most)).notes(dataset)
    (note,) = Detection(spec(("circle", "square", "triangle"), queries=most - 1)).notes(dataset)
    assert f"({most})" in note


def test_the_recipe_is_the_authors() -> None:
    assert (DETECTION_RECIPE.learning_rate, DETECTION_RECIPE.backbone_rate, DETECTION_RECIPE.clip_norm) == (
        1e-4,
        0.1,
        0.1,
    )
