"""The layout of stored labels: TinyViT's to the byte, its own folders read, damaged ones refused in a line."""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.training import label_store
from mobilevit_sdk.training.label_store import (
    AUGMENTATION,
    DataIdentity,
    Manifest,
    Versions,
    encode_keys,
    epoch_folder,
    is_written,
    manifest_sha256,
    read_epoch,
    read_manifest,
    record_type,
    stored_epochs,
    write_manifest,
    write_part,
)
from mobilevit_sdk.training.labels import augmentation_of, open_labels, soft_targets

# (seed, classes, probabilities) of K = 2, as TinyViT's code writes them
RECORDS = [(17, (3, 1), (0.75, 0.125)), (2**31 - 1, (0, 21840), (0.5, 0.25)), (0, (2, 0), (1.0, 0.0))]


def _cream(folder: Path, top_k: int = 2, epoch: int = 0) -> Path:
    """A folder as TinyViT's code leaves it: two ranks, of two and one images."""
    place = folder / f"logits_top{top_k}_epoch{epoch}"
    place.mkdir(parents=True)
    for rank, (keys, records) in enumerate(((["n01/b.png", "n01/a.png"], RECORDS[:2]), (["x"], RECORDS[2:]))):
        (place / f"rank{rank}-keys.txt").write_text("".join(f"{key}\n" for key in keys))
        content = b"".join(struct.pack("<i2h2e", seed, *classes, *shares) for seed, classes, shares in records)
        (place / f"rank{rank}-values.bin").write_bytes(content)
    return place


def _manifest(**changes: object) -> Manifest:
    fields = {
        "top_k": 2,
        "epochs": 1,
        "classes": 5,
        "labels": None,
        "part_images": 2,
        "image_size": (40, 40),
        "pixels": (46, 46),
        "seed": 0,
        "augmentation": augmentation_of(Recipe()),
        "versions": Versions(augmentation=1, torch="2", pillow="3"),
        "teacher": {},
        "teacher_sha256": "0",
        "data": DataIdentity(source="a", images=3, names_sha256="0", samples={}),
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def test_folders_of_tiny_vit_are_read(tmp_path: Path) -> None:
    _cream(tmp_path)
    epoch = read_epoch(tmp_path, 2, 0)
    assert [*epoch.keys()] == ["n01/b.png", "n01/a.png", "x"]
    for number in range(3):
        record = epoch.at(np.array([number]))[0]
        assert (record["seed"], *map(tuple, (record["classes"], record["probabilities"]))) == RECORDS[number]
    assert [record["seed"] for record in epoch.at(np.array([2, 0, 2]))] == [0, 17, 0]
    assert stored_epochs(tmp_path) == {2: [0]}
    with pytest.raises(RequestError, match=r"has no manifest.json: its seeds are of the random numbers of TinyViT's"):
        open_labels(tmp_path)


def test_what_is_written_is_the_layout_of_tiny_vit_to_the_byte(tmp_path: Path) -> None:
    expected = _cream(tmp_path / "theirs")
    kind = record_type(2, 21841)
    for part, (keys, records) in enumerate(((["n01/b.png", "n01/a.png"], RECORDS[:2]), (["x"], RECORDS[2:]))):
        write_part(epoch_folder(tmp_path, 2, 0), part, encode_keys(keys), np.array(records, kind))
    for path in expected.iterdir():
        assert (tmp_path / "logits_top2_epoch0" / path.name).read_bytes() == path.read_bytes()


def test_a_part_that_was_half_written_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replacing, written = label_store.replacing, []

    def first_alone(target: Path) -> AbstractContextManager[Path]:
        if written:
            raise KeyboardInterrupt
        written.append(target)
        return replacing(target)

    monkeypatch.setattr(label_store, "replacing", first_alone)
    with pytest.raises(KeyboardInterrupt):
        write_part(tmp_path, 0, b"x\n", np.array(RECORDS[2:], record_type(2, 5)))
    assert len(list(tmp_path.iterdir())) == 1
    assert not is_written(tmp_path, 0)


@given(st.integers(1, 300), st.sampled_from([300, 32767, 32768, 65536]))
def test_a_record_has_4_and_4_bytes_a_class(top_k: int, classes: int) -> None:
    kind = record_type(top_k, classes)
    assert kind.itemsize == 4 + 4 * top_k
    highest = np.array([(0, [classes - 1] * top_k, [0.5] * top_k)], kind)
    assert highest["classes"].astype(np.int64).max() == classes - 1
    if classes == 300:
        assert record_type(10, 1000).itemsize * 1_281_167 * 300 / 2**30 == pytest.approx(
            15.7, abs=0.1
        )  # GiB, as published
        assert record_type(100, 21841).itemsize == 404


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda place: (place / "rank1-values.bin").write_bytes(b"1234567"), "cut off, or has another K: 7 bytes"),
        (lambda place: (place / "rank0-values.bin").write_bytes(b""), "cut off"),
        (lambda place: (place / "rank0-values.bin").unlink(), "cannot read .*rank0-values.bin"),
        (lambda place: (place / "rank0-keys.txt").write_text("a\n"), "1 names for 2 records"),
        (lambda place: (place / "rank0-keys.txt").write_text("a\nb"), "1 names for 2 records"),
        (lambda place: (place / "rank1-keys.txt").write_bytes(b"a" * 5000), "5,000 bytes of names for 1 records"),
        (lambda place: [path.unlink() for path in place.glob("*-keys.txt")], "holds no rank0-keys.txt"),
    ],
)
def test_damaged_folders_are_refused_in_a_line(tmp_path: Path, damage, message: str) -> None:
    damage(_cream(tmp_path))
    with pytest.raises(RequestError, match=message) as caught:
        [*read_epoch(tmp_path, 2, 0).keys()]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("top_k", "classes"), [(0, 5), (6, 5), (10**9, 1000), (2, 1), (2, 65537)])
def test_an_absurd_number_of_classes_is_refused(tmp_path: Path, top_k: int, classes: int) -> None:
    with pytest.raises(RequestError, match=r"can be stored|classes apart"):
        read_epoch(tmp_path, top_k, 0, classes)
    with pytest.raises(ValueError, match=r"can be stored|classes apart"):
        _manifest(top_k=top_k, classes=classes)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"epochs": 0},
        {"part_images": 0},
        {"part_images": 1, "data": DataIdentity(source="a", images=10**11, names_sha256="", samples={})},
        {"image_size": (0, 40)},
        {"pixels": (40, 10**6)},
        {"labels": ("a", "b")},
        {"augmentation": {"crop_scale": [0.5, 1]}},
        {"data": DataIdentity(source="a", images=10**13, names_sha256="", samples={})},
        {"data": DataIdentity(source="a", images=3, names_sha256="", samples={"../x": ""})},
        {"seed": -1},
        {"unknown": 1},
    ],
)
def test_hostile_manifests_are_refused(tmp_path: Path, changes: dict) -> None:
    written = msgspec.to_builtins(_manifest()) | msgspec.to_builtins(changes)
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(written))
    with pytest.raises(RequestError, match=r"is not a manifest of stored labels") as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_manifest_is_read_back_and_its_hash_is_of_all_but_the_epochs(tmp_path: Path) -> None:
    manifest = _manifest()
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert set(manifest.augmentation) == set(AUGMENTATION)
    assert manifest_sha256(manifest) == manifest_sha256(_manifest(epochs=9)) != manifest_sha256(_manifest(seed=1))


@pytest.mark.parametrize("name", ["a\nb", "a\r", " a", "", "a" * 2000])
def test_a_name_that_is_no_line_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="cannot be a line of a file"):
        encode_keys([name])


def test_targets_spread_what_is_left_over_the_other_classes() -> None:
    records = np.array([(0, (3, 1), (0.5, 0.25)), (0, (0, 4), (0.99951, 0.0006))], record_type(2, 5))
    targets = soft_targets(records, 5, Path("here"))
    np.testing.assert_allclose(targets[0], [0.25 / 3, 0.25, 0.25 / 3, 0.5, 0.25 / 3], rtol=1e-6)
    assert targets[1, 1:4].tolist() == [0, 0, 0]  # more than 1 by rounding: clamped
    whole = np.array([(0, (1, 0), (0.75, 0.25))], record_type(2, 2))
    assert soft_targets(whole, 2, Path("here")).tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize(
    "record", [(0, (5, 1), (0.5, 0.2)), (0, (-1, 1), (0.5, 0.2)), (0, (0, 1), (np.nan, 0)), (0, (0, 1), (0.9, 0.9))]
)
def test_records_that_no_teacher_gave_are_refused(record: tuple) -> None:
    with pytest.raises(RequestError, match=r"here .*damaged"):
        soft_targets(np.array([record], record_type(2, 5)), 5, Path("here"))
