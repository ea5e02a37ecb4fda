"""Broken images are named all at once, before anything long starts, or left out and named."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from helpers import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from labeled_images import NAMES, pictures, write_folder, write_parquet

from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import ImageDataset, open_dataset, split_dataset
from mobilevit_sdk.data.calibration import split_images
from mobilevit_sdk.data.cases import image_cases
from mobilevit_sdk.data.pictures import decode_picture
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.spec import Preprocessing

BROKEN = {3: b"", 7: b"hello", 18: pictures(1)[0][0][:-400]}
PREPROCESSING = Preprocessing(image_size=(32, 32), resize_size=32)


@pytest.fixture(params=["folder", "parquet"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    images = [(BROKEN.get(row, encoded), label) for row, (encoded, label) in enumerate(pictures(30))]
    return (write_folder if request.param == "folder" else write_parquet)(tmp_path / "data", images)


def _broken_names(data: Path) -> list[str]:
    if data.is_file():
        return [f"row {row}" for row in BROKEN]
    return [str(Path(NAMES[row % 5]) / f"{row:03}.png") for row in BROKEN]


def test_every_broken_image_is_named(data: Path) -> None:
    with pytest.raises(RequestError) as error:
        open_dataset(data).checked()
    message = str(error.value)
    assert message.startswith(f"{data}: 3 of 30 images cannot be read: ")
    assert message.endswith("; give `skip_broken` to leave out such images")
    assert all(name in message for name in _broken_names(data))
    assert "is not an image of a known format" in message
    assert "cannot be decoded (" in message


def test_broken_images_are_left_out_and_named(data: Path) -> None:
    whole = open_dataset(data, labeled=True, skip_broken=True)
    dataset = whole.checked()
    kept = [row for row in range(30) if whole.names[row] not in _broken_names(data)]
    assert dataset.names == [whole.names[row] for row in kept]
    assert dataset.labels == [whole.labels[row] for row in kept]  # type: ignore[index]
    assert [dataset.read(row) for row in range(27)] == [whole.read(row) for row in kept]
    (note,) = dataset.notes
    assert note.startswith(f"{data}: 3 of 30 images cannot be read, left out: ")
    assert all(name in note for name in _broken_names(data))


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [(b"", 0), (b"hello", 1)])
    with pytest.raises(RequestError, match=r"2 of 2 images cannot be read: row 0 .*, row 1 "):
        open_dataset(path, skip_broken=True).checked()


def test_images_are_decoded_once_to_check_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def watch(encoded: bytes) -> object:
        decoded.append(encoded)
        return decode_picture(encoded)

    monkeypatch.setattr("mobilevit_sdk.data.dataset.decode_picture", watch)
    dataset = open_dataset(write_parquet(tmp_path / "a.parquet", pictures(200)))
    dataset.sample(100).checked().sample(20).checked()
    assert len(decoded) == 100


def test_calibration_and_cases_name_all_broken_images_or_take_the_others(data: Path) -> None:
    for read in (split_images, image_cases):
        with pytest.raises(RequestError, match="3 of 30 images cannot be read"):
            read(data, PREPROCESSING)
    dataset = open_dataset(data, skip_broken=True)
    assert sum(map(len, split_images(dataset, PREPROCESSING))) == 27
    assert len(image_cases(dataset, PREPROCESSING)) == 27


def _eval(tmp_path: Path, data: Path, *options: str) -> Result:
    model, spec = tiny_model()
    save_checkpoint(model, spec, tmp_path / "tiny.safetensors")
    return CliRunner().invoke(main, ["eval", str(tmp_path / "tiny.safetensors"), "--data", str(data), *options])


def test_command_refuses_broken_images_and_skips_them_if_told(data: Path, tmp_path: Path) -> None:
    refused = _eval(tmp_path, data)
    assert refused.exit_code == 2
    assert all(name in refused.stderr for name in _broken_names(data))
    assert "give --skip-broken to leave out such images" in " ".join(refused.stderr.split())
    skipped = _eval(tmp_path, data, "--skip-broken", "--json")
    assert skipped.exit_code == 0, skipped.stderr
    assert json.loads(skipped.stdout)["images"] == 27
    assert skipped.stderr.count("3 of 30 images cannot be read, left out") == 1


@pytest.mark.parametrize("order", [None, "lexicographic", "natural"])
def test_command_says_which_order_of_folders_it_took(tmp_path: Path, order: str | None) -> None:
    model, spec = tiny_model(num_classes=12)
    save_checkpoint(model, msgspec.structs.replace(spec, labels=None), tmp_path / "tiny.safetensors")
    for number, (encoded, _) in enumerate(pictures(12), start=1):
        (tmp_path / "data" / str(number)).mkdir(parents=True)
        (tmp_path / "data" / str(number) / "a.png").write_bytes(encoded)
    options = ["--class-order", order] if order else []
    arguments = ["eval", tmp_path / "tiny.safetensors", "--data", tmp_path / "data", *options]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert ("in lexicographic order (1, 10, 11 and 9 more)" in said) == (order is None)
    assert ("(1, 2, 3 and 9 more), give --class-order natural" in said) == (order is None)


def test_missing_calibration_images_are_noticed_before_the_checkpoint_is_read(tmp_path: Path) -> None:
    for arguments in (["convert", "none.pth", "--calibration"], ["quantize", "none.pth", "--calibration"]):
        result = CliRunner().invoke(main, [*arguments, str(tmp_path / "none")])
        assert result.exit_code == 2
        assert "none does not exist; give a folder of images" in " ".join(result.stderr.split())


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=60),
    st.floats(0.01, 0.99),
    st.randoms(use_true_random=False),
)
def test_split_is_stratified_and_depends_on_names_only(labels: list[int], share: float, random: object) -> None:
    rows = list(range(len(labels)))
    dataset = ImageDataset(Path("a"), [f"{row}.png" for row in rows], _Names(rows), labels, NAMES)
    if len(set(labels)) == len(labels):
        with pytest.raises(RequestError, match="one image a class"):
            split_dataset(dataset, share)
        return
    kept, held_out = split_dataset(dataset, share)
    assert sorted(kept.names + held_out.names) == sorted(dataset.names)
    for label in set(labels):
        total, out = labels.count(label), held_out.labels.count(label)  # type: ignore[union-attr]
        assert out == min(max(1, round(share * total)), total - 1)
    random.shuffle(rows)  # type: ignore[attr-defined]
    assert sorted(split_dataset(dataset.at(rows), share)[1].names) == sorted(held_out.names)


class _Names(msgspec.Struct):
    rows: list[int]

    def __call__(self, index: int) -> bytes:
        return str(self.rows[index]).encode()

    def at(self, rows: list[int]) -> _Names:
        return _Names([self.rows[row] for row in rows])


@pytest.mark.parametrize("share", [0, 1, -1, 2, float("nan")])
def test_share_out_of_range_is_refused(tmp_path: Path, share: float) -> None:
    dataset = open_dataset(write_parquet(tmp_path / "a.parquet", pictures(10)))
    with pytest.raises(RequestError, match="must lie between 0 and 1"):
        split_dataset(dataset, share)
