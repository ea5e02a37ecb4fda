"""Labeled boxes in Parquet: every layout of `datasets`, what is wrong with boxes, and what a dataset does with them."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from labeled_images import pictures, write_columns
from PIL import Image

from mobilevit_sdk.data import ImageDataset, Objects, open_dataset, split_dataset
from mobilevit_sdk.data.objects import ObjectTable
from mobilevit_sdk.errors import RequestError

IMAGES = [{"bytes": encoded, "path": None} for encoded, _ in pictures(3)]  # 40x40
BOXES = [[[1.0, 2, 30, 4], [5, 6, 7, 8.5]], [], [[0, 0, 40, 40]]]
CATEGORIES = [[1, 0], [], [2]]
NAMES = ("red", "white", "platelet")


def _objects(boxes: Any = BOXES, categories: Any = CATEGORIES, **others: Any) -> list[dict[str, Any]]:
    fields = {"bbox": boxes, "category": categories, **others}
    return [dict(zip(fields, row, strict=True)) for row in zip(*fields.values(), strict=True)]


def _metadata(category: Any = None) -> bytes:
    features = {
        "objects": {"category": {"feature": {"names": NAMES}, "_type": "List"}} if category is None else category
    }
    return json.dumps({"info": {"features": features}}).encode()


def _write(folder: Path, objects: Any, metadata: bytes | None = None, **columns: Any) -> Path:
    columns = {"image": (IMAGES * len(objects))[: len(objects)], "objects": objects, **columns}
    return write_columns(folder / "a.parquet", columns, _metadata() if metadata is None else metadata)


def _open(*arguments: Any, **columns: Any) -> ImageDataset:
    return open_dataset(_write(*arguments, **columns), labeled=True)


def _read(dataset: ImageDataset) -> list[tuple[list[list[float]], list[int]]]:
    assert dataset.objects is not None
    return [(each.boxes.tolist(), each.classes.tolist()) for each in dataset.objects]


EXPECTED = list(zip(BOXES, CATEGORIES, strict=True))


def test_struct_of_lists_is_read(tmp_path: Path) -> None:
    dataset = _open(tmp_path, _objects())
    assert _read(dataset) == EXPECTED
    assert dataset.class_names == NAMES
    assert dataset.labels is None
    first = dataset.objects[0]  # type: ignore[index]
    assert (first.boxes.dtype, first.classes.dtype, first.crowd.dtype) == (np.float32, np.int64, bool)
    assert first.size is None


def test_list_of_structs_is_read(tmp_path: Path) -> None:
    rows = [
        [{"bbox": box, "categories": label, "is_crowd": label == 2} for box, label in zip(*row, strict=True)]
        for row in EXPECTED
    ]
    dataset = _open(tmp_path, rows)
    assert _read(dataset) == EXPECTED
    assert [each.crowd.tolist() for each in dataset.objects] == [[False, False], [], [True]]  # type: ignore[union-attr]


@pytest.mark.parametrize("box", [pyarrow.list_(pyarrow.float32(), 4), pyarrow.large_list(pyarrow.int64())], ids=str)
def test_boxes_of_fixed_length_and_of_integers_are_read_in_many_row_groups(tmp_path: Path, box: Any) -> None:
    kind = pyarrow.struct([("bbox", pyarrow.list_(box)), ("category", pyarrow.list_(pyarrow.int8()))])
    boxes = [[[int(value) for value in each] for each in row] for row in BOXES]
    table = pyarrow.table({"image": IMAGES, "objects": pyarrow.array([*_objects(boxes)], kind)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    assert _read(open_dataset(tmp_path / "a.parquet", labeled=True)) == list(zip(boxes, CATEGORIES, strict=True))


def test_row_without_objects_is_an_empty_picture(tmp_path: Path) -> None:
    dataset = _open(tmp_path, [*_objects()[:2], None])
    assert _read(dataset) == [*EXPECTED[:2], ([], [])]
    assert _read(_open(tmp_path, [{"bbox": [], "category": []}] * 2)) == [([], [])] * 2
    assert _read(_open(tmp_path, [{"bbox": [], "category": []}] * 2).checked()) == [([], [])] * 2


def test_crowds_are_marked(tmp_path: Path) -> None:
    for marks in ([[1, 0], [], [None]], [[True, False], [], [False]]):
        dataset = _open(tmp_path, _objects(iscrowd=marks)).checked()
        assert [each.crowd.tolist() for each in dataset.objects] == [[True, False], [], [False]]  # type: ignore[union-attr]


def test_strings_are_classes_in_sorted_order(tmp_path: Path) -> None:
    dataset = _open(tmp_path, _objects(categories=[["dog", "cat"], [], ["dog"]]))
    assert dataset.class_names == ("cat", "dog")
    assert [labels for _, labels in _read(dataset)] == [[1, 0], [], [1]]


@pytest.mark.parametrize(
    "objects",
    [
        {"feature": {"category": {"names": NAMES, "_type": "ClassLabel"}}, "_type": "Sequence"},
        {"category": {"feature": {"names": NAMES}, "length": -1, "_type": "Sequence"}},
        [{"category": {"names": NAMES}, "bbox": []}],
        {"feature": {"categories": {"names": NAMES}}, "_type": "List"},
        {"category": [{"names": NAMES}]},
    ],
)
def test_class_names_are_found_wherever_datasets_writes_them(tmp_path: Path, objects: Any) -> None:
    assert _open(tmp_path, _objects(), _metadata(objects)).class_names == NAMES


@pytest.mark.parametrize("metadata", [b"{", b"[" * 100_000, b"{}", _metadata(3), _metadata({"feature": {}}), b"\xff"])
def test_malformed_metadata_means_no_class_names(tmp_path: Path, metadata: bytes) -> None:
    dataset = _open(tmp_path, _objects(), metadata)
    assert dataset.class_names is None
    assert _read(dataset) == EXPECTED


BOX = "a box is expected as x and y of its upper left corner, width and height, in pixels"
NAN = [[[1.0, 2, 3, float("nan")], [5, 6, 7, 8]], [], []]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (["cat"] * 3, "column `objects` is string, not a struct with `bbox` and `category`"),
        ([[1]] * 3, r"column `objects` is list<.*>, not a struct"),
        ([{"category": [0]}] * 3, "column `objects` has no `bbox`"),
        ([{"bbox": [[0.0, 0, 9, 9]]}] * 3, "column `objects` has no `category`"),
        ([{"bbox": [0.0], "category": [0]}] * 3, f"`bbox` in column `objects` holds double; {BOX}"),
        ([{"bbox": 3, "category": 3}] * 3, "`bbox` in column `objects` is int64, not a list"),
        (_objects([[["1"] * 4] * 2, [], [["1"] * 4]]), f"`bbox` in column `objects` holds string; {BOX}"),
        (_objects([[[0.0, 0, 9, 9]], [], [[0.0, 0, 9, 9]]]), "row 0 has 1 of `bbox` and 2 of `category`"),
        (_objects(iscrowd=[[0, 0], [], []]), "row 2 has 1 of `bbox` and 0 of `iscrowd`"),
        (_objects([*BOXES[:2], [[0, 0, 9]]]), f"row 2 has a box of 3 numbers; {BOX}"),
        (_objects([*BOXES[:2], [None]]), "row 2 has a box of 0 numbers"),
        (_objects([*BOXES[:2], [[0, 0, 9, None]]]), "row 2 has a box with a coordinate that is missing or NaN"),
        (_objects(NAN, [[0, 0], [], []]), "row 0 has a box with a coordinate that is missing or NaN"),
        (_objects(categories=[[0, 0], [], [None]]), "row 2 has an object without a category"),
        (_objects(categories=[[0.5, 0], [], [1]]), "`category` in column `objects` is double, neither class indices"),
        (_objects(categories=[[0, 0], [], [3]]), "row 2 has an object of category 3, but the names are of 0 to 2"),
        (_objects(categories=[[0, -1], [], [0]]), "row 0 has an object of category -1, but the names are of 0 to 2"),
        (
            _objects([[[0, 0, 1, 1.0], [0.2, 0.2, 0.5, 0.5]], [], [[0.5, 0.5, 0.1, 0.1]]]),
            f"no box reaches beyond 1: they look like shares of the picture; {BOX}",
        ),
    ],
)
def test_wrong_objects_are_refused_by_row_or_noted_where_not_needed(tmp_path: Path, objects: Any, message: str) -> None:
    path = _write(tmp_path, objects)
    with pytest.raises(RequestError, match=f"^{path}: {message}"):
        open_dataset(path, labeled=True)
    dataset = open_dataset(path)
    assert dataset.objects is None
    assert dataset.notes[0].startswith(f"{path}: objects not read: ")


def test_neither_labels_nor_objects_are_refused_where_needed(tmp_path: Path) -> None:
    path = write_columns(tmp_path / "a.parquet", {"image": IMAGES})
    with pytest.raises(RequestError, match="needs one column `label` or `objects`; it has image"):
        open_dataset(path, labeled=True)


def test_file_without_rows_holds_no_images(tmp_path: Path) -> None:
    whole = pyarrow.parquet.read_table(_write(tmp_path, _objects()))
    pyarrow.parquet.write_table(whole.slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(RequestError, match=r"empty\.parquet holds no images"):
        open_dataset(tmp_path / "empty.parquet", labeled=True)


def test_labels_decide_where_there_are_both_and_that_is_said(tmp_path: Path) -> None:
    dataset = _open(tmp_path, _objects(), label=[0, 1, 2])
    assert dataset.labels == [0, 1, 2]
    assert dataset.objects is None
    assert dataset.notes == (f"{dataset.source}: column `objects` not read; remove column `label` to read it",)


def test_boxes_are_clipped_or_left_out_and_noted(tmp_path: Path) -> None:
    good = [[1.0, 1, 38, 38], [10, 10, 5, 5]]
    bad = [[-5.0, 35, 10, 10], [50, 0, 5, 5], [3, 3, 0, 5], [3, 3, 5, -1], [0, 0, float("inf"), 9], [40, 0, 9, 9]]
    boxes = [good, bad, [[20.0, 20, 1e300, 3], [30, 30, 10.01, 10]]]
    dataset = _open(tmp_path, _objects(boxes, [[0, 1], [2, 0, 0, 0, 0, 0], [1, 2]])).checked()
    assert [labels for _, labels in _read(dataset)] == [[0, 1], [2], [2]]
    assert [each for each, _ in _read(dataset)] == [good, [[0, 35, 5, 5]], [[30, 30, 10, 10]]]
    assert dataset.notes == (
        f"{dataset.source}: 1 of 10 boxes clipped to the picture, the first in row 1",
        f"{dataset.source}: 6 of 10 boxes left out, outside the picture, without area or not finite: row 1, row 2",
    )
    assert all(each.size == (40, 40) for each in dataset.objects)  # type: ignore[union-attr]


def test_corners_are_refused(tmp_path: Path) -> None:
    corners = [[[2.0, 3, 30, 35], [20, 20, 30, 30]], [], [[10.0, 25, 39, 40]]]
    with pytest.raises(
        RequestError, match=f"2 of 3 boxes reach beyond .* they look like corners, x1, y1, x2, y2; {BOX}"
    ):
        _open(tmp_path, _objects(corners)).checked()


def test_boxes_of_a_larger_picture_are_refused(tmp_path: Path) -> None:
    boxes = [[[60.0 + column, 3, 30, 35] for column in range(20)]]
    with pytest.raises(RequestError, match=r"20 of 20 boxes reach beyond .* do not belong to pictures of this size"):
        _open(tmp_path, _objects(boxes, [[0] * 20])).checked()


def _turned(width: int, height: int) -> bytes:
    image, exif = Image.new("RGB", (width, height)), Image.Exif()
    exif[274] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_pictures_of_another_size_than_written_are_broken(tmp_path: Path) -> None:
    images = [IMAGES[0], {"bytes": _turned(60, 40), "path": None}, IMAGES[1]]
    path = _write(tmp_path, _objects(), image=images, width=[40, 60, 40], height=[40, 40, None])
    said = "row 1 is 40x60 pixels, but said to be 60x40, its size before its EXIF orientation is applied"
    with pytest.raises(RequestError, match=f"1 of 3 images cannot be used: {said}"):
        open_dataset(path, labeled=True).checked()
    left = open_dataset(path, labeled=True, skip_broken=True).checked()
    assert _read(left) == [EXPECTED[0], EXPECTED[2]]
    assert said in left.notes[0]
    path = _write(tmp_path, _objects(), width=[40, 40, 41], height=[40] * 3)
    with pytest.raises(RequestError, match=r"row 2 is 40x40 pixels, but said to be 41x40$|row 2 .* 41x40; give"):
        open_dataset(path, labeled=True).checked()


def test_objects_follow_their_pictures(tmp_path: Path) -> None:
    dataset = _open(tmp_path, _objects())
    assert _read(dataset.at([2, 0])) == [EXPECTED[2], EXPECTED[0]]
    assert _read(dataset.sample(2)) == [EXPECTED[0], EXPECTED[1]]
    assert _read(pickle.loads(pickle.dumps(dataset.checked()))) == EXPECTED


@given(st.integers(2, 50), st.floats(0.01, 0.99), st.randoms(use_true_random=False))
def test_split_holds_out_a_share_of_pictures_by_their_names(total: int, share: float, random: Any) -> None:
    objects = [Objects(np.full((1, 4), row), np.zeros(1, int), np.zeros(1, bool)) for row in range(total)]
    reader: Any = type("Reader", (), {"at": lambda self, rows: self})()
    dataset = ImageDataset(Path("a"), [f"{row}.png" for row in range(total)], reader, None, ("a",), objects=objects)
    kept, held_out = split_dataset(dataset, share)
    assert len(held_out) == min(max(1, round(share * total)), total - 1)
    for each in (kept, held_out):
        assert [f"{one.boxes[0, 0]}.png" for one in each.objects or ()] == each.names
    assert sorted(kept.names + held_out.names) == sorted(dataset.names)
    rows = list(range(total))
    random.shuffle(rows)
    assert sorted(split_dataset(dataset.at(rows), share)[1].names) == sorted(held_out.names)


def test_one_picture_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has one image: there is none to hold out"):
        split_dataset(_open(tmp_path, _objects()[:1]), 0.5)


NUMBERS = st.floats(-100, 200, width=32) | st.sampled_from([0.0, 40.0, float("inf"), -float("inf")])


@given(st.lists(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=5), min_size=1, max_size=6))
def test_boxes_that_are_kept_lie_in_the_picture_and_none_is_lost_unsaid(rows: list[list[Any]]) -> None:
    objects = [
        Objects(np.array(row, np.float32).reshape(-1, 4), np.arange(len(row)), np.zeros(len(row), bool), (40, 30))
        for row in rows
    ]
    try:
        table, notes = ObjectTable.of(objects, [f"row {row}" for row in range(len(rows))]).fit()
    except RequestError:
        assume(False)
    fitted = table.split()
    for before, after in zip(objects, fitted, strict=True):
        corners = after.boxes[:, :2] + after.boxes[:, 2:]
        assert (after.boxes[:, 2:] > 0).all()
        assert (after.boxes[:, :2] >= 0).all()
        assert (corners <= np.float32([40, 30]) + 1e-5).all()
        inside = (before.boxes[:, :2] >= 0).all(1) & (before.boxes[:, 2:] > 0).all(1) & np.isfinite(before.boxes).all(1)
        inside[inside] &= (before.boxes[inside].astype(float) @ np.eye(2)[[0, 1, 0, 1]] <= [40, 30]).all(1)
        assert [tuple(box) for box in before.boxes[inside]] == [
            tuple(box) for box, label in zip(after.boxes, after.classes, strict=True) if inside[label]
        ]
    lost = sum(map(len, rows)) - sum(map(len, fitted))
    assert any(note.startswith(f"{lost:,} of ") and "left out" in note for note in notes) == (lost > 0)


def test_huge_numbers_of_objects_are_read(tmp_path: Path) -> None:
    boxes = np.tile([1.0, 2, 3, 4], (200_000, 1)).tolist()
    dataset = _open(tmp_path, _objects([boxes, [], boxes[:1]], [[0] * 200_000, [], [1]])).checked()
    assert [len(each) for each in dataset.objects] == [200_000, 0, 1]  # type: ignore[union-attr]
