"""Images in many files: every one is there, in a shuffled order that reads few blocks at a time."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from labeled_images import NAMES, pictures, write_columns, write_folder, write_parquet

from mobilevit_sdk.data import ImageDataset, open_dataset, split_dataset
from mobilevit_sdk.data import storage as storage_module
from mobilevit_sdk.data.storage import BlockCache, Storage
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.training.schedule import plan_epoch, shuffled_rows

IMAGES = pictures(60, size=16)


def write_shards(folder: Path, counts: list[int], group: int = 4) -> Path:
    import pyarrow.parquet

    start = 0
    for number, count in enumerate(counts):
        path = write_parquet(folder / f"train-{number}.parquet", IMAGES[start : start + count])
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(path), path, row_group_size=group)
        start += count
    return folder


def write_tar(path: Path, images: list[tuple[bytes, int]], first: int, label: str = "cls") -> Path:
    with tarfile.open(path, "w") as tar:
        for index, (encoded, number) in enumerate(images):
            text = json.dumps({"label": number}) if label == "json" else str(number)
            members = [(f"{first + index:05}.png", encoded), (f"{first + index:05}.{label}", text.encode())]
            for name, content in members[:: -1 if index % 2 else 1] if label else members[:1]:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(params=["parquet", "tar"])
def shards(request: pytest.FixtureRequest, tmp_path: Path) -> ImageDataset:
    if request.param == "parquet":
        return open_dataset(f"{write_shards(tmp_path, [23, 1, 36])}/train-*.parquet", labeled=True)
    write_tar(tmp_path / "a.tar", IMAGES[:25], 0)
    write_tar(tmp_path / "b.tar", IMAGES[25:], 25, "json")
    return open_dataset(f"{tmp_path}/*.tar", labeled=True)


def test_every_image_and_label_is_read_as_it_was_written(shards: ImageDataset) -> None:
    assert len(shards) == 60
    assert shards.labels == [label for _, label in IMAGES]
    for row in np.random.default_rng(0).permutation(60):
        assert shards.read(int(row)) == IMAGES[row][0]
    assert len(set(shards.names)) == 60


def test_a_part_of_them_and_another_process_read_the_same(shards: ImageDataset) -> None:
    chosen = pickle.loads(pickle.dumps(shards.at([41, 3, 59]).at([2, 0])))
    assert [chosen.read(row) for row in range(2)] == [IMAGES[59][0], IMAGES[41][0]]
    assert chosen.labels == [IMAGES[59][1], IMAGES[41][1]]
    assert [*chosen.names] == [shards.names[59], shards.names[41]]
    train, test = split_dataset(shards, 0.2)
    assert sorted([*train.names, *test.names]) == sorted(shards.names)


def test_a_name_says_file_and_row(tmp_path: Path) -> None:
    shards = open_dataset(f"{write_shards(tmp_path, [23, 1, 36])}/train-*.parquet", labeled=True)
    assert [shards.names[row] for row in (0, 22, 23, 24, 59)] == [
        "train-0.parquet row 0",
        "train-0.parquet row 22",
        "train-1.parquet row 0",
        "train-2.parquet row 0",
        "train-2.parquet row 35",
    ]


def test_class_names_come_along_and_a_file_with_others_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path, [20, 40])
    assert open_dataset(f"{tmp_path}/*.parquet", labeled=True).class_names == NAMES
    write_parquet(tmp_path / "train-2.parquet", IMAGES[:4], metadata=b'{"info": {}}')
    with pytest.raises(RequestError, match="describes its images otherwise"):
        open_dataset(f"{tmp_path}/*.parquet", labeled=True)


class TestOrder:
    """The order in which an epoch shows images that lie in a storage."""

    recipe = Recipe(epochs=2, batch_size=10)

    def dataset(self, blocks: np.ndarray, size: int = 1) -> ImageDataset:
        storage = Storage(blocks, np.full(blocks.max() + 1, size))
        return ImageDataset(Path("x"), ["x"] * len(blocks), lambda row: b"", [0] * len(blocks), None, storage=storage)

    @pytest.mark.parametrize("count", [60, 61, 597, 1000])
    def test_an_epoch_shows_every_image_once_and_each_epoch_in_another_order(self, count: int) -> None:
        dataset = self.dataset(np.sort(np.random.default_rng(0).integers(0, 23, count)))
        orders = []
        for epoch in range(2):
            steps = plan_epoch(self.recipe, epoch, count, 64)
            order = shuffled_rows(self.recipe, epoch, steps, dataset)
            assert len(order) == sum(step.stop - step.start for step in steps)
            assert max(Counter(order.tolist()).values()) == 1
            orders.append(order.tolist())
        assert orders[0] != orders[1]
        assert orders[0] == shuffled_rows(self.recipe, 0, plan_epoch(self.recipe, 0, count, 64), dataset).tolist()

    def test_processes_whose_number_divides_that_of_the_lanes_read_different_blocks(self) -> None:
        dataset = self.dataset(np.repeat(np.arange(64), 25))
        recipe = Recipe(epochs=2, batch_size=32)
        steps = plan_epoch(recipe, 0, 1600, 64)
        order = shuffled_rows(recipe, 0, steps, dataset)
        read: dict[int, set[int]] = {rank: set() for rank in range(2)}
        for step in steps:
            rows = order[step.start : step.stop]
            for place, row in enumerate(rows.tolist()):
                rank = min(place, len(rows) - 1 - place) % 2
                read[rank].add(row // 25)
        assert not read[0] & read[1]
        assert len(read[0]) == len(read[1]) == 32

    def test_few_blocks_are_in_use_at_a_time_and_images_of_many_are_mixed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storage_module, "MEMORY_BYTES", 64)
        monkeypatch.setattr("mobilevit_sdk.training.schedule.MEMORY_BYTES", 64)
        dataset = self.dataset(np.repeat(np.arange(400), 10))
        assert dataset.storage is not None
        assert dataset.storage.lanes == 8
        steps = plan_epoch(self.recipe, 0, 4000, 64)
        blocks = shuffled_rows(self.recipe, 0, steps, dataset).numpy() // 10
        reads = []
        cache = BlockCache(reads.append, dataset.storage.block_bytes)
        for block in blocks.tolist():
            cache(block)
        assert len(reads) <= 1.1 * 400  # each about once
        assert len(set(blocks[:200].tolist())) >= 20
        assert abs(np.corrcoef(blocks, np.arange(4000))[0, 1]) < 0.15  # not in the order of the files

    def test_blocks_larger_than_the_memory_are_read_in_fewer_lanes(self) -> None:
        assert self.dataset(np.arange(4), storage_module.MEMORY_BYTES).storage.lanes == 1  # type: ignore[union-attr]


def test_the_memory_of_blocks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "MEMORY_BYTES", 10)
    read: list[int] = []
    cache = BlockCache(lambda block: read.append(block) or block, np.full(9, 4))
    assert [cache(block) for block in (0, 1, 0, 2, 0, 1)] == [0, 1, 0, 2, 0, 1]
    assert read == [0, 1, 2, 1]  # two fit; 1 was used longest ago when 2 came
    failing = BlockCache(lambda block: 1 // block, np.full(2, 4))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failing(0)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.parquet", b"PAR1 but not really PAR1", "no Parquet file"),
        ("a.tar", b"not a tar" * 200, "no tar file"),
        ("a.zip", b"PK", "must match"),
    ],
)
def test_foreign_files_are_refused_in_a_line(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=problem) as raised:
        open_dataset(f"{tmp_path}/a.*", labeled=True)
    assert "\n" not in str(raised.value)


def test_a_tar_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", IMAGES[:3], 0, "")
    whole = path.read_bytes()
    path.write_bytes(whole[: 512 + 100])
    with pytest.raises(RequestError, match="damaged"):
        open_dataset(str(path))
    path.write_bytes(whole)
    assert len(open_dataset(path)) == 3
    with pytest.raises(RequestError, match=r"a.tar row 0 has no label in a .cls or .json beside it"):
        open_dataset(path, labeled=True)


def test_what_cannot_be_listed_or_matches_nothing_is_said(tmp_path: Path) -> None:
    for source, problem in (
        (f"{tmp_path}/*.parquet", "matches no file"),
        ("nosuchstore://bucket/train-*.parquet", "cannot be listed"),
    ):
        with pytest.raises(RequestError, match=problem):
            open_dataset(source)
    write_folder(tmp_path / "folder", IMAGES[:5])
    write_shards(tmp_path / "folder", [5, 5])
    with pytest.raises(RequestError, match=r"say which: .*/train\*"):
        open_dataset(tmp_path / "folder")
    with pytest.raises(RequestError, match="leave out options"):
        open_dataset(f"{tmp_path}/folder/*.parquet", skip_broken=True)


def test_a_row_without_an_image_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    write_columns(tmp_path / "a.parquet", {"image": [{"bytes": IMAGES[0][0]}, {"bytes": None}], "label": [0, 1]})
    images = open_dataset(f"{tmp_path}/*.parquet", labeled=True)
    assert images.image(0).size == (16, 16)
    with pytest.raises(RequestError, match=r"a.parquet row 1 cannot be decoded \(it holds no image bytes\)"):
        images.image(1)


def damaged_tar(path: Path, offset: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(whole)


def header_of(kind: bytes, size: int) -> bytes:
    """Of a member, with a right checksum, whatever size it claims: below zero in base 256."""
    header = bytearray(tarfile.TarInfo("b.png").tobuf(tarfile.USTAR_FORMAT))
    header[156:157] = kind
    header[124:136] = b"\xff" + (size % 256**11).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("kind", [b"0", b"5", b"7", b"S"])
def test_a_member_of_negative_size_is_refused_where_tarfile_would_go_back_and_on_and_on(tmp_path, kind):
    path = write_tar(tmp_path / "a.tar", IMAGES[:2], 0)
    damaged_tar(path, 0, header_of(kind, -1024))
    with pytest.raises(RequestError, match=r"damaged one .*b\.png has a negative size"):
        open_dataset(f"{tmp_path}/*.tar")


def test_a_tar_that_ends_early_is_refused_and_no_image_is_silently_missing(tmp_path):
    """At a member's end there is no half of anything: only the empty block is missing that ends a tar."""
    path = write_tar(tmp_path / "a.tar", IMAGES[:3], 0)
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset])
    with pytest.raises(RequestError, match="it is cut off: the empty block is missing that ends a tar"):
        open_dataset(f"{tmp_path}/*.tar")


def test_a_damaged_header_is_not_taken_for_the_end_of_a_tar(tmp_path):
    path = write_tar(tmp_path / "a.tar", IMAGES[:3], 0)
    with tarfile.open(path) as tar:
        second = tar.getmembers()[2].offset
    damaged_tar(path, second, b"\xff")
    with pytest.raises(RequestError, match=f"byte {second:,} is neither a member nor the end"):
        open_dataset(f"{tmp_path}/*.tar")


@pytest.mark.parametrize("name", ["a.parquet", "*.parquet"])
def test_more_images_than_bytes_are_refused_before_they_fill_the_memory(tmp_path, name):
    """Runs of equal values take no room in a Parquet file: 40,000 rows of this one have 14 kB, 20 million 130 kB."""
    import pyarrow.parquet

    images = pyarrow.StructArray.from_arrays([pyarrow.array([b"x"] * 40_000, pyarrow.binary())], names=["bytes"])
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "label": [1] * 40_000}), path)
    size = path.stat().st_size
    assert size < 40_000
    with pytest.raises(RequestError, match=f"claims 40,000 images in {size:,} bytes"):
        open_dataset(f"{tmp_path}/{name}")
