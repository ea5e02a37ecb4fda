"""Names that do not say which class is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from helpers import tiny_spec
from labeled_images import pictures, write_folder

from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.accuracy import match_classes, yes_notes


def _dataset(folder: Path, labels: list[int], names: tuple[str, ...]) -> ImageDataset:
    encoded = pictures(1)[0][0]
    return ImageDataset(folder, [f"row {i}" for i in range(len(labels))], lambda i: encoded, labels, names)


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
