"""Classification: counting of top-1 and top-5, classes matched by name, and one loss for all who ask."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import tiny_spec
from labeled_images import NAMES, pictures, write_folder, write_parquet

from mobilevit_sdk.data import ClassOrder, ImageDataset, open_dataset, open_pictures
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.recipe import Distillation, Recipe
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.tasks.classes import class_order_notes, match_answers, match_classes, yes_notes
from mobilevit_sdk.tasks.distillation import distillation_loss
from mobilevit_sdk.tasks.draws import Draws, image_seeds


def _dataset(tmp_path: Path, labels: list[int], names: tuple[str, ...] | None = None) -> ImageDataset:
    encoded = pictures(1)[0][0]
    return ImageDataset(tmp_path, [f"row {i}" for i in range(len(labels))], lambda i: encoded, labels, names)


def _scores(*orders: tuple[int, ...], num_classes: int = 8) -> np.ndarray:
    """One row for each order: class indices from the highest score to the lowest of those named."""
    scores = np.zeros((len(orders), num_classes), np.float32)
    for row, order in zip(scores, orders, strict=True):
        row[list(order)] = np.arange(len(order), 0, -1)
    return scores


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_known_ranks_are_counted(tmp_path: Path, batch_size: int) -> None:
    answers = _scores((3, 1, 2, 4, 5), (1, 3, 2, 4, 5), (1, 2, 4, 5, 3), (1, 2, 4, 5, 6, 3), (3, 0, 1, 2, 4))
    rows = iter(answers)
    done: list[int] = []
    accuracy = task_of(tiny_spec(num_classes=8)).measure(
        lambda images: np.stack([next(rows) for _ in images]),
        _dataset(tmp_path, [3] * 5),
        batch_size=batch_size,
        progress=lambda step: done.append(step.done),
    )
    assert (accuracy.images, accuracy.top1, accuracy.top5) == (5, 2 / 5, 4 / 5)
    assert done[-1] == 5


def test_constant_scores_are_right_for_the_first_class_alone(tmp_path: Path) -> None:
    task = task_of(tiny_spec(num_classes=8))
    accuracy = task.measure(lambda x: np.ones((len(x), 8)), _dataset(tmp_path, list(range(8))))
    assert (accuracy.top1, accuracy.top5) == (1 / 8, 5 / 8)


def test_nan_is_never_right(tmp_path: Path) -> None:
    task = task_of(tiny_spec(num_classes=8))
    accuracy = task.measure(lambda x: np.full((len(x), 8), np.nan), _dataset(tmp_path, [0, 1]))
    assert (accuracy.top1, accuracy.top5, accuracy.not_finite) == (0, 0, 2)


@pytest.mark.parametrize(("names", "yes"), [(None, 1), (("cat", "dog"), 1), (("class 0", "dog"), 0)])
def test_one_score_says_yes_or_no(tmp_path: Path, names: tuple[str, ...] | None, yes: int) -> None:
    spec = tiny_spec(num_classes=1)
    data = _dataset(tmp_path, [0, 1, 1, 0, 1], names)
    assert match_answers(data, spec).labels == [int(label == yes) for label in (0, 1, 1, 0, 1)]
    scores = np.array([[2.0], [3.0], [-1.0], [-1.0], [np.nan]])
    found = task_of(spec).measure(lambda images: scores[: len(images)], data)
    assert found.top1 == found.top5 == 2 / 5


@pytest.mark.parametrize("labels", [[0, 0], [0, 1, 2]])
def test_one_score_needs_images_of_both_answers(tmp_path: Path, labels: list[int]) -> None:
    task, data = task_of(tiny_spec(num_classes=1)), _dataset(tmp_path, labels)
    with pytest.raises(RequestError, match="one score, which says yes or no"):
        task.measure(lambda images: np.ones((len(images), 1)), data)
    with pytest.raises(RequestError, match="nothing to choose between"):
        task.match(data, training=True)


def test_predictor_gets_the_images_preprocessed_for_the_app(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def predict(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.zeros((len(images), 5))

    dataset = open_dataset(write_folder(tmp_path, pictures(3)), labeled=True)
    task_of(tiny_spec(image_size=48)).measure(predict, dataset)
    assert (seen[0].shape, seen[0].dtype) == ((3, 3, 48, 48), np.uint8)


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    dataset = open_dataset(write_folder(tmp_path, [p for p in pictures(10) if p[1] in (1, 4)]), labeled=True)
    assert dataset.labels == [0, 0, 1, 1]
    assert match_classes(dataset, tiny_spec()).labels == [1, 1, 4, 4]


def test_unknown_class_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"class 'class 7' that mobilevit_xxs lacks; did you mean class"):
        match_classes(_dataset(tmp_path, [0], ("class 7",)), tiny_spec())
    more = (*NAMES, "another")
    with pytest.raises(RequestError, match="class 'another' that mobilevit_xxs lacks"):
        match_classes(_dataset(tmp_path, [0, 5], more), tiny_spec())
    assert match_classes(_dataset(tmp_path, [0, 4], more), tiny_spec()).labels == [0, 4]  # no picture is of it


def test_classes_under_other_names_go_by_position_only_if_asked(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, [4, 0], tuple(f"n{i:08}" for i in range(5)))
    with pytest.raises(
        RequestError, match=r"no class of .* is one of mobilevit_xxs .*give `class_order=lexicographic`"
    ):
        match_classes(dataset, tiny_spec())
    assert match_classes(dataclasses.replace(dataset, class_order="lexicographic"), tiny_spec()).labels == [4, 0]


@pytest.mark.parametrize("order", [None, "lexicographic", "natural"])
def test_order_of_numbered_folders_is_said_where_nothing_decides_it(tmp_path: Path, order: ClassOrder | None) -> None:
    for number in range(1, 13):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a.png").write_bytes(pictures(1)[0][0])
    dataset = open_dataset(tmp_path, class_order=order)
    assert dataset.class_names is not None
    assert dataset.class_names[1] == ("2" if order == "natural" else "10")
    unlabeled = msgspec.structs.replace(tiny_spec(num_classes=12), labels=None)
    notes = class_order_notes(dataset, unlabeled)
    if order is None:
        assert "lexicographic order (1, 10, 11 and 9 more)" in notes[0]
        assert "natural order (1, 2, 3 and 9 more), give `class_order=natural`" in notes[0]
    else:
        assert not notes
    assert not class_order_notes(dataset, msgspec.structs.replace(unlabeled, labels=dataset.class_names))


@pytest.mark.parametrize(
    ("labels", "names", "known", "found"),
    [
        ([0, 5], None, NAMES, 6),
        ([0], ("cat", "dog"), None, 2),  # without labels in the model, another number of classes cannot be its own
    ],
)
def test_wrong_number_of_classes_is_refused_with_both_counts(
    tmp_path: Path, labels: list[int], names: tuple[str, ...] | None, known: tuple[str, ...] | None, found: int
) -> None:
    spec = msgspec.structs.replace(tiny_spec(), labels=known)
    with pytest.raises(RequestError, match=f"has {found} classes, but the head of mobilevit_xxs has 5"):
        match_classes(_dataset(tmp_path, labels, names), spec)


def test_unlabeled_data_cannot_be_evaluated(tmp_path: Path) -> None:
    dataset = dataclasses.replace(_dataset(tmp_path, [0]), labels=None)
    with pytest.raises(RequestError, match="has no labels"):
        task_of(tiny_spec()).measure(lambda x: x, dataset)


def test_parquet_and_folder_of_the_same_images_agree(tmp_path: Path) -> None:
    images = pictures(20)
    weights = np.random.default_rng(0).normal(size=(3 * 32 * 32, 5))

    def predict(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1) @ weights

    sources = write_folder(tmp_path / "folder", images), write_parquet(tmp_path / "a.parquet", images)
    folder, parquet = (task_of(tiny_spec()).measure(predict, open_dataset(each, labeled=True)) for each in sources)
    assert folder == parquet
    assert 0 < folder.top1 < 1


def test_a_name_that_two_classes_share_is_refused(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(tiny_spec(num_classes=3), labels=("crane", "bee", "crane"))
    names = ("bee", "crane")
    with pytest.raises(RequestError, match="has 2 classes called 'crane'"):
        match_classes(_dataset(tmp_path, [0, 1], names), spec)
    assert match_classes(_dataset(tmp_path, [0, 0], names), spec).labels == [1, 1]  # no picture is of the other


def test_what_one_score_was_taken_to_mean_is_said(tmp_path: Path) -> None:
    spec, data = tiny_spec(num_classes=1), _dataset(tmp_path, [0, 1], ("defect", "good"))
    (note,) = yes_notes(data, msgspec.structs.replace(spec, labels=None))
    assert "has no label: above 0 was taken to mean 'good'; if it means 'defect', right and wrong trade places" in note
    (note,) = yes_notes(data, msgspec.structs.replace(spec, labels=("broken",)))
    assert "is called 'broken': above 0" in note
    assert yes_notes(data, msgspec.structs.replace(spec, labels=("defect",))) == ()


@pytest.mark.parametrize("order", ["Natural", "", "name"])
def test_an_unknown_class_order_is_refused(tmp_path: Path, order: Any) -> None:
    with pytest.raises(RequestError, match="no class order"):
        open_dataset(write_folder(tmp_path, pictures(2)), class_order=order)


def _labeled(labels: list[int]) -> ImageDataset:
    names = [str(row) for row in range(len(labels))]
    return dataclasses.replace(open_pictures([Path(name) for name in names]), labels=labels)


def test_the_loss_has_the_terms_that_are_asked_for() -> None:
    task = task_of(tiny_spec())
    generator = torch.Generator().manual_seed(0)
    scores, taught = torch.randn(2, 6, 5, generator=generator)
    labels = torch.arange(6) % 5
    targets = task.targets(_labeled(labels.tolist()), range(6))
    assert torch.equal(targets.argmax(1), labels)
    assert targets.sum() == 6
    plain = Recipe(label_smoothing=0.1)
    distilled = msgspec.structs.replace(plain, distillation=Distillation(weight=0.9))
    assert torch.equal(task.loss(scores, labels), F.cross_entropy(scores, labels))
    smoothed = F.cross_entropy(scores, targets, label_smoothing=0.1)
    assert torch.equal(task.loss(scores, targets, plain), smoothed)
    assert torch.equal(task.loss(scores, targets, distilled), smoothed)  # nothing was taught
    both = distillation_loss(scores, targets, taught, Distillation(weight=0.9), 0.1)
    assert torch.equal(task.loss(scores, targets, distilled, taught), both)
    assert task.loss(scores.bfloat16(), targets, plain).dtype == torch.float32
    assert task.loss(scores.double(), labels).dtype == torch.float64  # a network that is pruned in float64


def test_images_and_targets_are_mixed_alike() -> None:
    """Of a black and a white image, the share of white is that of the second class."""
    task = task_of(tiny_spec())
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    images[1] = 255
    recipe = Recipe(augment_ops=0, mix_probability=1.0)
    shares = set()
    for seed in range(8):
        targets = task.targets(_labeled([0, 1]), [0, 1])
        draws = Draws(image_seeds(seed, 0, [0, 1]), torch.Generator().manual_seed(seed))
        mixed, targets = task.augment(images, targets, (32, 32), recipe, draws)
        torch.testing.assert_close(mixed.mean((1, 2, 3)), targets[:, 1], atol=1e-5, rtol=0)
        shares.add(round(float(targets[0, 1]), 3))
    assert len(shares) > 4
