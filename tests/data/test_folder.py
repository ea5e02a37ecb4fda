"""Class indices come from the class folders: not from what systems leave there, nor from the pictures found."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labeled_images import NAMES, pictures, write_folder, write_parquet

from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.data.folder import natural_key
from mobilevit_sdk.errors import RequestError

PICTURE = pictures(1)[0][0]


def _put(path: Path, content: bytes = PICTURE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints",
        ".Trash-1000",
        "__MACOSX",
        "@eaDir",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
        "__pycache__",
        "#recycle",
    ],
)
@pytest.mark.parametrize("place", ["", NAMES[2]])
def test_folders_that_systems_leave_behind_are_not_classes(tmp_path: Path, name: str, place: str) -> None:
    write_folder(tmp_path, pictures(5))
    _put(tmp_path / place / name / "a.png")
    _put(tmp_path / place / "Thumbs.db")
    _put(tmp_path / place / ".DS_Store")
    dataset = open_dataset(tmp_path, labeled=True)
    assert (dataset.class_names, dataset.labels, dataset.notes) == (NAMES, [0, 1, 2, 3, 4], ())


@pytest.mark.parametrize("left", [(), ("a.heic",), ("a.txt", "b.heic")])
def test_class_without_readable_pictures_keeps_its_index_and_is_named(tmp_path: Path, left: tuple[str, ...]) -> None:
    write_folder(tmp_path, [picture for picture in pictures(5) if picture[1] != 1])
    (tmp_path / NAMES[1]).mkdir()
    for name in left:
        _put(tmp_path / NAMES[1] / name)
    dataset = open_dataset(tmp_path, labeled=True)
    assert (dataset.class_names, dataset.labels) == (NAMES, [0, 2, 3, 4])
    assert dataset.notes[-1].endswith("no readable pictures in the class folder class 1; each still counts as a class")


def test_files_that_are_not_read_are_counted_by_kind(tmp_path: Path) -> None:
    write_folder(tmp_path, pictures(5))
    for name in ("a.heic", "b.HEIC", "c.jxl", "README"):
        _put(tmp_path / NAMES[3] / name)
    (note,) = open_dataset(tmp_path).notes
    assert note == f"{tmp_path}: 4 files not read: 2 .heic, 1 .jxl, 1 without a suffix"


def test_folder_of_nothing_that_is_read_says_what_it_holds(tmp_path: Path) -> None:
    _put(tmp_path / "cat" / "a.heic")
    with pytest.raises(RequestError, match=r"holds no images \(.*\.jpg.*\); .*1 file not read: 1 \.heic"):
        open_dataset(tmp_path)


def test_links_are_followed(tmp_path: Path) -> None:
    write_folder(tmp_path / "real", pictures(10))
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in NAMES[:4]:
        (linked / name).symlink_to(tmp_path / "real" / name, target_is_directory=True)
    (linked / NAMES[4]).mkdir()
    for file in (tmp_path / "real" / NAMES[4]).iterdir():
        (linked / NAMES[4] / file.name).symlink_to(file)
    one, other = open_dataset(tmp_path / "real", labeled=True), open_dataset(linked, labeled=True)
    assert (one.names, one.labels, one.class_names) == (other.names, other.labels, other.class_names)
    assert one.read(9) == other.read(9)


def test_circles_of_links_end_and_are_not_classes(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", pictures(5))
    (data / "itself").symlink_to(data, target_is_directory=True)
    (data / "above").symlink_to(tmp_path, target_is_directory=True)
    (data / NAMES[0] / "neighbor").symlink_to(data / NAMES[1], target_is_directory=True)
    (data / NAMES[1] / "neighbor").symlink_to(data / NAMES[0], target_is_directory=True)
    dataset = open_dataset(data, labeled=True)
    assert (dataset.class_names, dataset.labels) == (NAMES, [0, 1, 2, 3, 4])


def test_dangling_link_is_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    write_folder(tmp_path, pictures(5))
    (tmp_path / NAMES[0] / "gone.png").symlink_to(tmp_path / "nowhere.png")
    dataset = open_dataset(tmp_path, labeled=True)
    with pytest.raises(RequestError, match=r"gone\.png cannot be decoded"):
        dataset.image(dataset.names.index(os.path.join(NAMES[0], "gone.png")))  # noqa: PTH118


def test_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == NAMES[1]:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    write_folder(tmp_path, pictures(5))
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(RequestError, match=r"cannot read the folder .*class 1: Permission denied"):
        open_dataset(tmp_path)


def test_decomposed_accents_are_those_of_the_labels(tmp_path: Path) -> None:
    _put(tmp_path / "cafe\u0301" / "a.png")
    dataset = open_dataset(tmp_path, labeled=True)
    assert dataset.class_names == ("caf\u00e9",)
    assert dataset.read(0) == PICTURE


@pytest.mark.parametrize(("order", "second"), [(None, "10"), ("lexicographic", "10"), ("natural", "2")])
def test_order_of_classes_is_chosen(tmp_path: Path, order: str | None, second: str) -> None:
    for number in range(1, 13):
        _put(tmp_path / str(number) / "a.png")
    dataset = open_dataset(tmp_path, labeled=True, class_order=order)  # type: ignore[arg-type]
    assert dataset.class_names is not None
    assert dataset.class_names[1] == second
    for name, label in zip(dataset.names, dataset.labels or [], strict=True):
        assert dataset.class_names[label] == Path(name).parent.name


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["", "class ", "n0"]))
def test_natural_order_counts(numbers: list[int], prefix: str) -> None:
    names = sorted((f"{prefix}{number}" for number in numbers), key=natural_key)
    assert names == [f"{prefix}{number}" for number in sorted(numbers)]


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_dataset_travels_without_its_pictures(tmp_path: Path, kind: str) -> None:
    write = write_folder if kind == "folder" else write_parquet
    dataset = open_dataset(write(tmp_path / "data", pictures(50, size=64)), labeled=True).sample(10)
    sent = pickle.dumps(dataset)
    assert len(sent) < 3000
    there = pickle.loads(sent)
    assert [there.read(index) for index in range(10)] == [dataset.read(index) for index in range(10)]
    assert (there.names, there.labels) == (dataset.names, dataset.labels)
