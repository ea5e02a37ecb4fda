"""Images and labels from folders and Parquet files, hostile ones included, and the preprocessing of an app."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from labeled_images import NAMES, encode, pictures, write_columns, write_folder, write_parquet
from PIL import Image

from mobilevit_sdk.data import crop_image, open_dataset, to_model_input
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.spec import Preprocessing

PICTURE = pictures(1)[0][0]


def test_folder_gives_its_class_folders_in_sorted_order(tmp_path: Path) -> None:
    images = pictures(10)
    dataset = open_dataset(write_folder(tmp_path, images[::-1]), labeled=True)
    assert dataset.class_names == NAMES
    assert dataset.labels == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert dataset.image(2).size == (40, 40)
    assert dataset.read(0) == images[::-1][4][0]  # class 0's first file


def test_folder_given_as_a_dot_has_the_same_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, pictures(5))
    monkeypatch.chdir(tmp_path)
    assert open_dataset(Path(), labeled=True).labels == [0, 1, 2, 3, 4]
    (tmp_path / "stray.png").write_bytes(PICTURE)
    assert open_dataset(Path()).labels is None


def test_files_that_only_look_like_images_are_skipped(tmp_path: Path) -> None:
    write_folder(tmp_path, pictures(5))
    (tmp_path / NAMES[0] / "._000.png").write_bytes(b"resource fork")
    (tmp_path / NAMES[0] / "notes.txt").write_text("not an image")
    (tmp_path / NAMES[0] / "folder.png").mkdir()
    assert len(open_dataset(tmp_path)) == 5


@pytest.mark.parametrize("place", ["flat.png", "class 0/deeper/image.png"])
def test_image_outside_a_class_folder_is_named_when_labels_are_needed(tmp_path: Path, place: str) -> None:
    write_folder(tmp_path, pictures(5))
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(PICTURE)
    assert open_dataset(tmp_path).labels is None
    with pytest.raises(RequestError, match=r"one folder per class.*" + place):
        open_dataset(tmp_path, labeled=True)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None], ids=["empty", "missing"])
def test_nothing_there_is_an_error(tmp_path: Path, make: object) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises(RequestError, match=r"data (holds no images|does not exist)"):
        open_dataset(tmp_path / "data")


def test_parquet_gives_images_labels_and_class_names(tmp_path: Path) -> None:
    images = pictures(7)
    dataset = open_dataset(write_parquet(tmp_path / "a.parquet", images), labeled=True)
    assert dataset.class_names == NAMES
    assert dataset.labels == [label for _, label in images]
    assert [dataset.read(index) for index in range(7)] == [encoded for encoded, _ in images]


@pytest.mark.parametrize(
    "metadata",
    [
        b"{",
        b"[" * 100_000,
        b"null",
        b'{"info": 3}',
        b'{"info": {"features": {"label": {"names": "cat"}}}}',
        b'{"info": {"features": {"label": {"names": [1, 2, 3, 4, 5]}}}}',
        b'{"info": {"features": {"label": {"names": []}}}}',
        b"\xff\xfe",
    ],
)
def test_malformed_schema_metadata_means_no_class_names(tmp_path: Path, metadata: bytes) -> None:
    dataset = open_dataset(write_parquet(tmp_path / "a.parquet", pictures(5), metadata=metadata), labeled=True)
    assert dataset.class_names is None
    assert dataset.labels == [0, 1, 2, 3, 4]


IMAGE = {"bytes": PICTURE, "path": None}
NAMED = b'{"info": {"features": {"label": {"names": ["cat", "dog"]}}}}'


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"picture": [IMAGE], "label": [0]}, "needs one column `image`; it has picture, label"),
        ({"image": [IMAGE]}, "needs one column `label` or `objects`; it has image"),
        ({"image": [PICTURE], "label": [0]}, "column `image` is binary, not a struct"),
        ({"image": [{"path": "a.png"}], "label": [0]}, "not a struct with the encoded image"),
        ({"image": [{"bytes": "text"}], "label": [0]}, "not a struct with the encoded image"),
        ({"image": [IMAGE, {"bytes": None, "path": "b.png"}], "label": [0, 1]}, "row 1 holds no image bytes"),
        ({"image": [IMAGE, None], "label": [0, 1]}, "row 1 holds no image bytes"),
        ({"image": [IMAGE], "label": [0.5]}, "column `label` is double, not class indices"),
        ({"image": [IMAGE], "label": ["cat"]}, "column `label` is string, not class indices"),
        ({"image": [IMAGE, IMAGE], "label": [0, -1]}, "row 1 has no label"),
        ({"image": [IMAGE, IMAGE], "label": [0, None]}, "row 1 has no label"),
        ({"image": [IMAGE, IMAGE], "label": [0, 2]}, "row 1 has label 2, but the schema names 2 classes"),
    ],
)
def test_parquet_with_wrong_columns_is_refused_by_name(tmp_path: Path, columns: dict, message: str) -> None:
    path = write_columns(tmp_path / "a.parquet", columns, NAMED)
    with pytest.raises(RequestError, match=message):
        open_dataset(path, labeled=True)


def test_parquet_with_two_image_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    column = pyarrow.array([IMAGE])
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([column, column], names=["image", "image"]), path)
    with pytest.raises(RequestError, match="needs one column `image`; it has image, image"):
        open_dataset(path)


def test_parquet_without_labels_opens_where_none_are_needed(tmp_path: Path) -> None:
    path = write_columns(tmp_path / "a.parquet", {"image": [IMAGE, IMAGE], "label": [-1, -1]})
    assert open_dataset(path).labels is None
    assert len(open_dataset(path)) == 2


def test_truncated_parquet_is_refused_at_every_length(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "whole.parquet", pictures(3, size=16)).read_bytes()
    path = tmp_path / "cut.parquet"
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(RequestError, match="is no Parquet file, or a damaged one"):
            open_dataset(path)


def test_picture_given_as_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURE)
    with pytest.raises(RequestError, match=r"a\.png is no Parquet file"):
        open_dataset(tmp_path / "a.png")


def _png_bomb() -> bytes:
    """A PNG that says it holds 60,000 x 60,000 pixels: 10 GB once decoded."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _eps() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "EPS")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "not an image of a known format"),
        (b"hello", "not an image of a known format"),
        (_eps(), "not an image of a known format"),  # Pillow would hand it to Ghostscript
        (PICTURE[:-400], "cannot be decoded"),
        (PICTURE[:50] + b"\xff" * 20 + PICTURE[70:], "cannot be decoded"),
        (_png_bomb(), "cannot be decoded.*decompression bomb"),
    ],
    ids=["empty", "text", "eps", "truncated", "corrupt", "bomb"],
)
def test_image_that_does_not_decode_is_named(tmp_path: Path, encoded: bytes, message: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", [(PICTURE, 0), (encoded, 1)])
    dataset = open_dataset(path, labeled=True)
    with pytest.raises(RequestError, match=rf"a.parquet: row 1 .*{message}"):
        dataset.image(1)


def test_sample_is_spread_over_all_classes(tmp_path: Path) -> None:
    dataset = open_dataset(write_folder(tmp_path, pictures(25)), labeled=True)
    sample = dataset.sample(5)
    assert sample.labels == [0, 1, 2, 3, 4]
    assert [sample.read(i) for i in range(5)] == [dataset.read(i) for i in range(0, 25, 5)]
    assert sample.names == [dataset.names[i] for i in range(0, 25, 5)]
    assert len(dataset.sample(1000)) == 25


def test_crop_keeps_the_middle_of_a_wide_picture() -> None:
    pixels = np.arange(3 * 6 * 3, dtype=np.uint8).reshape(3, 6, 3)
    crop = crop_image(Image.fromarray(pixels), Preprocessing(image_size=(3, 3), resize_size=3))
    np.testing.assert_array_equal(crop, pixels[:, 1:4].transpose(2, 0, 1))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("across", [True, False])
def test_crop_of_a_ramp_is_the_ramp_at_the_resized_pixels_centers(across: bool, interpolation: str) -> None:
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None] * 2, (50, 100, 3))  # value 2x at column x
    image = Image.fromarray(np.ascontiguousarray(ramp if across else ramp.transpose(1, 0, 2)))
    crop = crop_image(image, Preprocessing(image_size=(20, 20), resize_size=25, interpolation=interpolation))
    # 100 x 50 becomes 50 x 25; columns 15 to 34 stay; their centers are 2 * (column + 0.5) - 0.5 in the picture.
    line = 2 * (2 * (np.arange(15, 35) + 0.5) - 0.5)
    expected = np.broadcast_to(line[None, None, :], (3, 20, 20))
    np.testing.assert_allclose(crop if across else crop.transpose(0, 2, 1), expected, atol=0.51)


def test_crop_larger_than_the_resized_picture_is_filled() -> None:
    crop = crop_image(Image.new("RGB", (10, 30), (200, 100, 50)), Preprocessing(image_size=(64, 48), resize_size=16))
    np.testing.assert_array_equal(crop, np.broadcast_to(np.array([200, 100, 50])[:, None, None], (3, 64, 48)))


def test_squashed_picture_keeps_its_borders_and_loses_its_proportions() -> None:
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, 40:] = 250
    squash = Preprocessing(image_size=(20, 20), resize_size=20, resize_mode="squash")
    crop = crop_image(Image.fromarray(halves), squash)
    assert not crop[:, :, :8].any()
    assert (crop[:, :, 12:] == 250).all()
    assert "squashed to 20x20" in squash.describe()


def test_strip_is_cropped_before_it_is_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    strip = np.zeros((2, 30_000, 3), np.uint8)
    strip[:, 14_990:15_010] = 255
    resize, largest = Image.Image.resize, 0

    def watch(image: Image.Image, size: tuple[int, int], *args: object, **kwargs: object) -> Image.Image:
        nonlocal largest
        largest = max(largest, size[0] * size[1])
        return resize(image, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watch)
    crop = crop_image(Image.fromarray(strip), Preprocessing(image_size=(64, 64), resize_size=72))
    assert crop.min() == 255
    assert largest < 100_000  # 72 x 1,080,000 otherwise


def test_model_input_is_ordered_and_normalized() -> None:
    preprocessing = Preprocessing(
        image_size=(1, 1), resize_size=1, channel_order="bgr", mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0)
    )
    red, green, blue = 255, 51, 0
    x = to_model_input(torch.tensor([red, green, blue], dtype=torch.uint8).view(1, 3, 1, 1), preprocessing)
    torch.testing.assert_close(x.flatten(), torch.tensor([(0 - 0.5) / 0.5, (0.2 - 0.25) / 0.25, (1 - 0) / 2]))


def test_encode_round_trip_is_exact() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode(pixels)))), pixels)
