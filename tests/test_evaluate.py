"""Counting of top-1 and top-5, matching of classes by name, and `mobilevit eval` over checkpoints and artefacts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
from helpers import tiny_spec
from labelled_images import NAMES, pictures, write_folder, write_parquet

from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluate import evaluate, match_classes


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
    accuracy = evaluate(
        lambda images: np.stack([next(rows) for _ in images]),
        tiny_spec(num_classes=8),
        _dataset(tmp_path, [3] * 5),
        batch_size=batch_size,
        report=done.append,
    )
    assert (accuracy.images, accuracy.top1, accuracy.top5) == (5, 2 / 5, 4 / 5)
    assert done[-1] == 5


def test_constant_scores_are_right_for_the_first_class_alone(tmp_path: Path) -> None:
    labels = list(range(8))
    accuracy = evaluate(lambda x: np.ones((len(x), 8)), tiny_spec(num_classes=8), _dataset(tmp_path, labels))
    assert (accuracy.top1, accuracy.top5) == (1 / 8, 5 / 8)


def test_nan_is_never_right(tmp_path: Path) -> None:
    accuracy = evaluate(lambda x: np.full((len(x), 8), np.nan), tiny_spec(num_classes=8), _dataset(tmp_path, [0, 1]))
    assert (accuracy.top1, accuracy.top5) == (0, 0)


def test_predictor_gets_the_images_preprocessed_for_the_app(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def predict(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.zeros((len(images), 5))

    evaluate(predict, tiny_spec(image_size=48), open_dataset(write_folder(tmp_path, pictures(3)), labelled=True))
    assert (seen[0].shape, seen[0].dtype) == ((3, 3, 48, 48), np.uint8)


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    dataset = open_dataset(write_folder(tmp_path, [p for p in pictures(10) if p[1] in (1, 4)]), labelled=True)
    assert dataset.labels == [0, 0, 1, 1]
    assert match_classes(dataset, tiny_spec()).labels == [1, 1, 4, 4]


def test_unknown_class_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"class 'class 7' that mobilevit_xxs lacks; did you mean class"):
        match_classes(_dataset(tmp_path, [0], ("class 7",)), tiny_spec())


@pytest.mark.parametrize(
    ("labels", "names", "known", "found"),
    [
        ([0, 5], None, NAMES, 6),
        ([0], (*NAMES, "another"), NAMES, 6),
        ([0], ("cat", "dog"), None, 2),  # without labels in the model, another number of classes cannot be its own
    ],
)
def test_wrong_number_of_classes_is_refused_with_both_counts(
    tmp_path: Path, labels: list[int], names: tuple[str, ...] | None, known: tuple[str, ...] | None, found: int
) -> None:
    spec = msgspec.structs.replace(tiny_spec(), labels=known)
    with pytest.raises(RequestError, match=f"has {found} classes, but the head of mobilevit_xxs has 5"):
        match_classes(_dataset(tmp_path, labels, names), spec)


def test_unlabelled_data_cannot_be_evaluated(tmp_path: Path) -> None:
    dataset = dataclasses.replace(_dataset(tmp_path, [0]), labels=None)
    with pytest.raises(RequestError, match="has no labels"):
        evaluate(lambda x: x, tiny_spec(), dataset)


def test_parquet_and_folder_of_the_same_images_agree(tmp_path: Path) -> None:
    images = pictures(20)
    weights = np.random.default_rng(0).normal(size=(3 * 32 * 32, 5))

    def predict(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1) @ weights

    folder = evaluate(predict, tiny_spec(), open_dataset(write_folder(tmp_path / "folder", images), labelled=True))
    parquet = evaluate(predict, tiny_spec(), open_dataset(write_parquet(tmp_path / "a.parquet", images), labelled=True))
    assert folder == parquet
    assert 0 < folder.top1 < 1
