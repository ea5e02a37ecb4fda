"""The set loss: the cheapest assignment, its terms by hand, and pictures that are hard to match."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from mobilevit_sdk.tasks.detection.set_loss import divide, generalized_iou, layer_loss, match, set_loss
from mobilevit_sdk.tasks.detection.targets import BoxTargets

BOX = st.tuples(*[st.floats(0, 1, width=32)] * 4)


def random_answers(images: int, queries: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, queries, classes + 1, generator=generator)
    return logits, torch.rand(images, queries, 4, generator=generator)


def random_targets(counts: list[int], classes: int, seed: int) -> BoxTargets:
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(classes, (count,), generator=generator) for count in counts]
    return BoxTargets(drawn, [torch.rand(count, 4, generator=generator) for count in counts])


def iou_by_hand(one: Tensor, other: Tensor) -> tuple[float, float]:
    """IoU and generalized IoU of two boxes, number by number."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = one.double().tolist(), other.double().tolist()
    left, right = max(ax - aw / 2, bx - bw / 2), min(ax + aw / 2, bx + bw / 2)
    top, bottom = max(ay - ah / 2, by - bh / 2), min(ay + ah / 2, by + bh / 2)
    shared = max(0.0, right - left) * max(0.0, bottom - top)
    union = aw * ah + bw * bh - shared
    hull = (max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)) * (
        max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)
    )
    return shared / union, shared / union - (hull - union) / hull


@pytest.mark.parametrize("seed", range(5))
def test_no_other_assignment_costs_less(seed: int) -> None:
    logits, boxes = random_answers(1, 5, 3, seed)
    targets = random_targets([3], 3, seed)
    probabilities = logits[0].softmax(1)

    def cost(queries: tuple[int, ...]) -> float:
        found = 0.0
        for query, label, box in zip(queries, targets.classes[0], targets.boxes[0], strict=True):
            _, overlap = iou_by_hand(boxes[0, query], box)
            apart = float((boxes[0, query] - box).abs().sum())
            found += 5 * apart - 2 * overlap - float(probabilities[query, label])
        return found

    images, queries = match(logits, boxes, targets)
    assert images.tolist() == [0, 0, 0]
    best = min(itertools.permutations(range(5), 3), key=cost)
    assert cost(tuple(queries.tolist())) == pytest.approx(cost(best), abs=1e-5)


def test_the_terms_of_the_loss_are_those_of_the_paper() -> None:
    logits, boxes = random_answers(2, 4, 3, 7)
    targets = random_targets([2, 1], 3, 7)
    images, queries = match(logits, boxes, targets)
    owner = {(int(image), int(query)): row for row, (image, query) in enumerate(zip(images, queries, strict=True))}
    labels, wanted = torch.cat(targets.classes), torch.cat(targets.boxes)
    named = weights = apart = overlapping = 0.0
    for image, query in itertools.product(range(2), range(4)):
        row = owner.get((image, query))
        label, weight = (3, 0.1) if row is None else (int(labels[row]), 1.0)
        named -= weight * float(logits[image, query].log_softmax(0)[label])
        weights += weight
        if row is not None:
            apart += float((boxes[image, query] - wanted[row]).abs().sum())
            overlapping += 1 - iou_by_hand(boxes[image, query], wanted[row])[1]
    expected = named / weights + 5 * apart / 3 + 2 * overlapping / 3
    assert float(layer_loss(logits, boxes, targets)) == pytest.approx(expected, rel=1e-5)


def test_every_layer_counts_and_is_matched_anew() -> None:
    layers = [random_answers(2, 6, 3, seed) for seed in range(3)]
    targets = random_targets([3, 0], 3, 1)
    alone = [float(layer_loss(*layer, targets)) for layer in layers]
    assert float(set_loss(layers, targets)) == pytest.approx(sum(alone), rel=1e-6)


def test_a_perfect_answer_costs_nothing_and_a_permuted_one_neither() -> None:
    targets = random_targets([3], 4, 3)
    logits = torch.full((1, 5, 5), -40.0)
    boxes = torch.rand(1, 5, 4, generator=torch.Generator().manual_seed(0))
    for query, row in ((4, 0), (0, 1), (2, 2)):
        logits[0, query, targets.classes[0][row]] = 40.0
        boxes[0, query] = targets.boxes[0][row]
    logits[0, [1, 3], 4] = 40.0
    assert float(layer_loss(logits, boxes, targets)) == pytest.approx(0, abs=1e-5)


def test_pictures_without_objects_teach_that_there_are_none() -> None:
    logits, boxes = (each.requires_grad_() for each in random_answers(2, 4, 3, 0))
    loss = layer_loss(logits, boxes, random_targets([0, 0], 3, 0))
    loss.backward()
    assert math.isfinite(loss.item())
    assert boxes.grad is not None
    assert not boxes.grad.any()
    assert logits.grad is not None
    assert (logits.grad[..., -1] < 0).all()


def test_boxes_without_an_area_have_finite_gradients() -> None:
    logits, _ = random_answers(1, 3, 2, 0)
    boxes = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 1e-9, 0.2], [1.0, 1.0, 1e-9, 1e-9]]], requires_grad=True)
    targets = BoxTargets([torch.tensor([0, 1])], [torch.tensor([[0.5, 0.5, 1e-6, 1e-6], [1.0, 1.0, 1e-4, 1e-4]])])
    layer_loss(logits, boxes, targets).backward()
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()


def test_objects_beyond_the_queries_have_no_answer_and_stop_nothing() -> None:
    logits, boxes = (each.requires_grad_() for each in random_answers(1, 4, 3, 0))
    targets = random_targets([9], 3, 0)
    _, queries = match(logits.detach(), boxes.detach(), targets)
    assert sorted(queries.tolist()) == [-1] * 5 + [0, 1, 2, 3]
    loss = layer_loss(logits, boxes, targets)
    loss.backward()
    assert math.isfinite(loss.item())


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_an_answer_that_is_no_number_makes_the_loss_none(broken: float) -> None:
    logits, boxes = random_answers(1, 4, 3, 0)
    logits[0, 1, 2] = broken
    assert not math.isfinite(layer_loss(logits, boxes, random_targets([2], 3, 0)))


@given(BOX, BOX)
@example((0.0, 1.0, 0.0, 0.0), (0.0, 1.0, 1.0, 1.9e-12))  # thinner than a float32 beside its place
def test_generalized_iou_lies_between_its_bounds_and_is_symmetric(
    one: tuple[float, ...], other: tuple[float, ...]
) -> None:
    first, second = torch.tensor(one), torch.tensor(other)
    found = float(generalized_iou(first, second))
    assert -1 - 1e-5 <= found <= 1 + 1e-5
    assert found == pytest.approx(float(generalized_iou(second, first)), abs=1e-5)
    if min(*one[2:], *other[2:]) > 1e-3:
        iou, expected = iou_by_hand(first, second)
        assert found == pytest.approx(expected, abs=1e-3)
        assert found <= iou + 1e-3


def test_the_losses_of_parts_make_that_of_the_batch_where_they_divide_by_what_is_in_it() -> None:
    """As where several processes share a batch: the mean of theirs, by pictures."""
    logits, boxes = random_answers(7, 5, 3, seed=0)
    targets = random_targets([0, 1, 7, 2, 0, 3, 4], 3, seed=1)  # in one more than there are queries
    places = [[0, 3, 6], [1, 5], [2, 4]]
    parts = [BoxTargets([targets.classes[i] for i in own], [targets.boxes[i] for i in own]) for own in places]

    def mean(each: list[BoxTargets]) -> Tensor:
        losses = [layer_loss(logits[own], boxes[own], part) for own, part in zip(places, each, strict=True)]
        return sum((len(own) / 7 * loss for own, loss in zip(places, losses, strict=True)), torch.zeros(()))

    whole = layer_loss(logits, boxes, targets)
    torch.testing.assert_close(mean(divide(parts, 5, lambda numbers: numbers)), whole)
    assert not torch.allclose(mean(parts), whole, rtol=1e-3)
