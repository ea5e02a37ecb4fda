"""COCO JSON with a folder of pictures, Roboflow's and Hugging Face's folders, and hostile ones of each."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labeled_images import pictures, write_folder

from mobilevit_sdk.cli import main
from mobilevit_sdk.cli.data_options import OpenImages, data_options
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.errors import RequestError

IMAGES = [{"id": 7, "file_name": "b.png", "width": 40, "height": 40}, {"id": 3, "file_name": "deep/a.png"}]
CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]
ANNOTATIONS = [
    {"id": 5, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3.5, 4], "iscrowd": 0, "area": 14, "segmentation": []},
    {"id": 6, "image_id": 3, "category_id": 1, "bbox": [5, 6, 30, 8], "iscrowd": 1},
]


def _write(folder: Path, pictures_folder: str = ".", name: str = "instances.json", **changes: Any) -> Path:
    content = {"images": IMAGES, "annotations": ANNOTATIONS, "categories": CATEGORIES, "info": {}, **changes}
    content = {key: value for key, value in content.items() if value is not None}
    for (encoded, _), file in zip(pictures(2), ("b.png", "deep/a.png"), strict=True):
        path = folder / pictures_folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    (folder / name).write_text(json.dumps(content))
    return folder / name


def _read(dataset: ImageDataset) -> list[tuple[list[list[float]], list[int], list[bool]]]:
    assert dataset.objects is not None
    return [(each.boxes.tolist(), each.classes.tolist(), each.crowd.tolist()) for each in dataset.objects]


EXPECTED = [([], [], []), ([[1, 2, 3.5, 4], [5, 6, 30, 8]], [2, 0], [False, True])]


def test_coco_json_gives_pictures_boxes_and_categories_in_the_order_of_their_ids(tmp_path: Path) -> None:
    dataset = open_dataset(_write(tmp_path), labeled=True)
    assert dataset.names == ["b.png", "deep/a.png"]
    assert dataset.class_names == ("person", "stop sign", "toothbrush")
    assert _read(dataset) == EXPECTED
    assert [each.size for each in dataset.objects] == [(40, 40), None]  # type: ignore[union-attr]
    checked = dataset.checked()
    assert checked.notes == ()
    assert [each.size for each in checked.objects] == [(40, 40)] * 2  # type: ignore[union-attr]
    assert checked.at([1]).read(0) == pictures(2)[1][0]


def test_pictures_may_lie_in_another_folder(tmp_path: Path) -> None:
    path = _write(tmp_path, "val2017")
    with pytest.raises(
        RequestError, match=r"none of the 2 pictures that .* is in .*, such as b.png; give .* `pictures`"
    ):
        open_dataset(path)
    assert _read(open_dataset(path, pictures=tmp_path / "val2017").checked()) == EXPECTED
    with pytest.raises(RequestError, match=r"nowhere, which is to hold the pictures .* is no folder"):
        open_dataset(path, pictures=tmp_path / "nowhere")


def test_folder_with_roboflows_file_is_read_by_it(tmp_path: Path) -> None:
    _write(tmp_path, name="_annotations.coco.json")
    assert _read(open_dataset(tmp_path, labeled=True).checked()) == EXPECTED


def test_folder_with_hugging_faces_metadata_is_read_by_it(tmp_path: Path) -> None:
    _write(tmp_path).unlink()
    lines: list[dict[str, Any]] = [
        {"file_name": "deep/a.png", "objects": {"bbox": [[1, 2, 3.5, 4]], "categories": ["dog"]}},
        {"file_name": "b.png", "objects": {"bbox": [], "categories": []}, "more": 1},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    dataset = open_dataset(tmp_path, labeled=True).checked()
    assert dataset.class_names == ("dog",)
    assert _read(dataset) == [([[1, 2, 3.5, 4]], [0], [False]), ([], [], [])]
    for bad, message in (
        ("{", "a line is no JSON object with a `file_name`"),
        (json.dumps({"file_name": "../a.png"}), r"names files outside the folder of the pictures: \.\./a\.png"),
        (json.dumps({"file_name": "b.png", "objects": [1]}), "`objects` have no common layout"),
        (json.dumps({"file_name": "b.png", "objects": {"bbox": [[1]], "categories": [1]}}), "b.png|no common layout"),
    ):
        (tmp_path / "metadata.jsonl").write_text(json.dumps(lines[0]) + "\n" + bad)
        with pytest.raises(RequestError, match=message):
            open_dataset(tmp_path, labeled=True)


def test_metadata_without_objects_leaves_the_folder_as_it_is(tmp_path: Path) -> None:
    write_folder(tmp_path, pictures(5))
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a caption"}\n')
    assert open_dataset(tmp_path, labeled=True).labels == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["../b.png", "deep/../../b.png", "/etc/passwd"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path, images=[*IMAGES, {"id": 9, "file_name": name}])
    with pytest.raises(RequestError, match=f"names files outside the folder of the pictures: {name}"):
        open_dataset(path)


def test_links_out_of_the_folder_are_broken_pictures(tmp_path: Path) -> None:
    path = _write(tmp_path / "data")
    (tmp_path / "secret.png").write_bytes(pictures(1)[0][0])
    (tmp_path / "data" / "b.png").unlink()
    (tmp_path / "data" / "b.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(RequestError, match=r"1 of 2 images .* b.png cannot be decoded \(a link out of the folder"):
        open_dataset(path).checked()
    (tmp_path / "link").symlink_to(tmp_path / "data")  # the folder itself may be one
    (tmp_path / "data" / "b.png").unlink()
    (tmp_path / "data" / "b.png").symlink_to(tmp_path / "data" / "deep" / "a.png")
    assert len(open_dataset(tmp_path / "link" / "instances.json").checked()) == 2


def test_missing_pictures_are_named_or_left_out(tmp_path: Path) -> None:
    path = _write(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(RequestError, match=r"1 of 2 images cannot be used: b.png cannot be decoded \(no such file\)"):
        open_dataset(path).checked()
    assert _read(open_dataset(path, skip_broken=True).checked()) == EXPECTED[1:]


def test_annotations_in_any_order_reach_their_pictures(tmp_path: Path) -> None:
    between = {"id": 1, "image_id": 7, "category_id": 13, "bbox": [9, 9, 9, 9]}
    dataset = open_dataset(_write(tmp_path, annotations=[ANNOTATIONS[0], between, ANNOTATIONS[1]]), labeled=True)
    assert _read(dataset) == [([[9, 9, 9, 9]], [1], [False]), EXPECTED[1]]


def test_ignored_annotations_are_crowds_and_ids_may_be_strings(tmp_path: Path) -> None:
    images = [{"id": "x", "file_name": "b.png", "width": 40.0, "height": 40.0}]
    annotations = [{"image_id": "x", "category_id": 1, "bbox": [0, 0, 9, 9], "ignore": 1}]
    path = _write(tmp_path, images=images, annotations=annotations)
    assert _read(open_dataset(path, labeled=True).checked()) == [([[0, 0, 9, 9]], [0], [True])]


def _annotation(**changes: Any) -> dict[str, Any]:
    return {"annotations": [ANNOTATIONS[0], {**ANNOTATIONS[1], **changes}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (_annotation(image_id=8), "annotation 6 is of image 8, which is not among the images"),
        (_annotation(category_id=2), "annotation 6 is of category 2, which is not among the categories"),
        (_annotation(id=None, category_id=None), r"annotation 1 \(counted from 0\) is of category None"),
        (_annotation(bbox=None), "annotation 6 has no `bbox` of four numbers; a box is expected as x and y"),
        (_annotation(bbox=[]), "annotation 6 has no `bbox` of four numbers"),
        (_annotation(bbox=[1, 2, 3]), "annotation 6 has no `bbox` of four numbers"),
        ({"annotations": None}, "there are no `annotations` and `categories`"),
        ({"categories": None}, "there are no `annotations` and `categories`"),
        ({"categories": [*CATEGORIES, {"id": 1, "name": "dog"}]}, "several categories have the id 1"),
        ({"categories": [*CATEGORIES, {"id": 2, "name": "person"}]}, "several categories have the name person"),
        (
            {"annotations": [{**ANNOTATIONS[0], "bbox": [0, 0, 0.5, 1]}]},
            "no box reaches beyond 1: they look like shares",
        ),
    ],
)
def test_broken_annotations_are_named_or_noted_where_not_needed(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = _write(tmp_path, **changes)
    with pytest.raises(RequestError, match=f"^{path}: {message}"):
        open_dataset(path, labeled=True)
    dataset = open_dataset(path)
    assert dataset.objects is None
    assert dataset.notes[0].startswith(f"{path}: objects not read: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, r"is no COCO JSON of detection \(Object missing required field `images`\)"),
        ({"images": [*IMAGES, {"id": 7, "file_name": "c.png"}]}, "several images have the id 7"),
        ({"images": [{"id": 1}]}, "is no COCO JSON of detection"),
        ({"images": [], "annotations": []}, "holds no images"),
        (_annotation(bbox=[1, 2, 3, "4"]), r"is no COCO JSON .*annotations\[1\]\.bbox\[3\]"),
        (_annotation(bbox=[1, 2, 3, None]), r"is no COCO JSON .*annotations\[1\]\.bbox\[3\]"),
        (_annotation(bbox=[1, 2, 3, float("nan")]), "is no COCO JSON"),
        ({"images": [{"id": 1, "file_name": "a\0.png"}]}, "none of the 1 picture"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = _write(tmp_path, **changes)
    with pytest.raises(RequestError, match=message):
        open_dataset(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=50) | st.just(b"[" * 100_000), st.integers(0), st.integers(0, 20))
def test_damaged_json_is_read_or_refused(tmp_path: Path, junk: bytes, start: int, length: int) -> None:
    path = _write(tmp_path)
    whole = path.read_bytes()
    start %= len(whole)
    for content in (junk, whole[:start], whole[:start] + junk + whole[start + length :]):
        path.write_bytes(content)
        with contextlib.suppress(RequestError):
            assert len(open_dataset(path).checked()) > 0


def test_pictures_go_with_a_coco_json_only(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"`pictures` is the folder of the pictures that a COCO JSON names, and .* is"
    ):
        open_dataset(write_folder(tmp_path, pictures(5)), pictures=tmp_path)


@click.command()
@click.option("--data", type=click.Path(path_type=Path))
@click.option("--test-data", type=click.Path(path_type=Path))
@data_options()
def _count(data: Path, test_data: Path | None, open_images: OpenImages) -> None:
    for images in (open_images(data, labeled=True), open_images(test_data)):
        click.echo(str(images and len(images)))


def test_command_takes_the_folder_of_pictures_and_prints_what_was_clipped(tmp_path: Path) -> None:
    annotations = [{**ANNOTATIONS[0], "bbox": [30, 30, 20, 5]}, ANNOTATIONS[1]]
    path = _write(tmp_path, "val", annotations=annotations)
    arguments = ["--data", str(path), "--pictures", str(tmp_path / "val"), "--test-data", str(tmp_path / "val")]
    result = CliRunner().invoke(_count, arguments)
    assert result.stdout == "2\n2\n"
    assert "1 of 2 boxes clipped to the picture, the first in deep/a.png" in " ".join(result.stderr.split())
    wrong = CliRunner().invoke(_count, ["--data", str(tmp_path / "val"), "--pictures", str(tmp_path / "val")])
    assert "no COCO JSON is given" in str(wrong.exception)


def test_command_without_the_folder_of_pictures_asks_for_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["convert", "none.pth", "--calibration", str(_write(tmp_path, "val"))])
    assert result.exit_code == 2
    assert "such as b.png; give their folder as --pictures" in " ".join(result.stderr.split())
