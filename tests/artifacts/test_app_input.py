"""What an artifact tells an app, and what it does not tell of the machine that made it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import REPOSITORY, tiny_spec
from made_once import in_this_process
from markdown_it import MarkdownIt
from PIL import Image

from mobilevit_sdk import convert, load_checkpoint
from mobilevit_sdk.artifacts.artifact import MANIFEST, open_artifact, write_manifest
from mobilevit_sdk.artifacts.origin import origin_of, source_of
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import crop_image
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import portable
from mobilevit_sdk.formats.app_input import AppInput, Resizing, app_input_of
from mobilevit_sdk.formats.converter import TensorInfo, converters

GUIDE = REPOSITORY / "docs" / "guides" / "artifact-folder.md"
FED = {
    "coreai": ("image", "NCHW", (1, 3, 36, 36), "float32", (0.0, 1.0)),
    "coreml": ("image", "picture", (1, 3, 36, 36), "uint8", (0.0, 255.0)),
    "executorch": ("input_0", "NCHW", (1, 3, 36, 36), "float32", (0.0, 1.0)),
    "tflite": ("image", "NHWC", (1, 36, 36, 3), "float32", (0.0, 1.0)),
}


@pytest.mark.parametrize("name", FED)
def test_manifest_and_inspect_say_what_an_app_feeds(phone_files, name):
    artifact = phone_files.artifact(name, converters()[name].precisions[0])
    fed = artifact.manifest.app_input
    assert (fed.name, fed.layout, fed.shape, fed.dtype, fed.range) == FED[name]
    assert (fed.channel_order, fed.mean_and_std) == ("RGB", "in the graph")
    alone = json.loads(CliRunner().invoke(main, ["inspect", str(artifact.path), "--json"]).stdout)
    assert msgspec.convert(alone["app_input"], AppInput) == fed
    text = CliRunner().invoke(main, ["inspect", str(artifact.path)]).stdout
    words = " ".join(text.split())
    assert "mean and std are in the graph" in words
    assert "shorter side to 36 (bilinear, antialiased), center 36x36" in words


def test_the_app_s_resizing_is_what_crop_image_does():
    """Written down from `app_input` alone, for a picture that is reduced and cropped, and for one that is squashed."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8))
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    for mode, filter_name in (("shorter", "bicubic"), ("squash", "bilinear")):
        preprocessing = msgspec.structs.replace(
            tiny_spec().preprocessing, resize_size=40, resize_mode=mode, interpolation=filter_name
        )
        fed = app_input_of([TensorInfo(name="x", shape=(1, 3, 32, 32), dtype="float32")], preprocessing).resizing
        if fed.mode == "squash":
            mine = picture.resize(fed.size[::-1], filters[fed.filter])
        else:
            scale = fed.size[0] / min(picture.size)
            mine = picture.resize([round(side * scale) for side in picture.size], filters[fed.filter])
            (height, width), (wide, high) = fed.center_crop, mine.size
            left, top = (wide - width) // 2, (high - height) // 2
            mine = mine.crop((left, top, left + width, top + height))
        assert np.array_equal(np.asarray(mine).transpose(2, 0, 1), crop_image(picture, preprocessing)), fed


def test_no_input_of_an_app_is_made_up():
    preprocessing = tiny_spec().preprocessing
    image = TensorInfo(name="x", shape=(1, 3, 32, 32), dtype="float32")
    assert isinstance(app_input_of([image], preprocessing).resizing, Resizing)
    for inputs in (
        [],
        [image, image],
        [msgspec.structs.replace(image, shape=(1, 3, 32, 33))],
        [msgspec.structs.replace(image, shape=())],
        [msgspec.structs.replace(image, dtype="BGR image")],
    ):
        assert app_input_of(inputs, preprocessing) is None


def test_a_manifest_of_before_still_opens(phone_files, tmp_path):
    folder = shutil.copytree(phone_files.artifact("tflite", "fp32").path.parent, tmp_path / "old")
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["app_input"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert open_artifact(folder).manifest.app_input is None


def test_the_guide_s_reader_reads_reference_vectors(phone_files, tmp_path, monkeypatch, capsys):
    artifact = phone_files.artifact("tflite", "fp32")
    shutil.copytree(artifact.path.parent, tmp_path / "artifacts" / "mobilevit_xxs-tflite-fp32")
    monkeypatch.chdir(tmp_path)
    (program,) = [t.content for t in MarkdownIt().parse(GUIDE.read_text()) if t.info == "python"]
    exec(program, {})
    reference = artifact.reference()
    expected = [
        f"{case.name} {answer.argmax()} {case.image.max() / 255}"
        for case, answer in zip(reference.cases, reference.answers, strict=True)
    ]
    assert capsys.readouterr().out.splitlines() == expected


def test_artifacts_hold_no_path_of_the_machine(phone_files, tmp_path):
    checkpoint, photos = tmp_path / "private" / "mine.safetensors", tmp_path / "private" / "photos"
    photos.mkdir(parents=True)
    shutil.copy(phone_files.checkpoint().source, checkpoint)
    for index, case in enumerate(phone_files.artifact("tflite", "fp32").reference().cases[:20]):
        Image.fromarray(case.image.transpose(1, 2, 0)).save(photos / f"{index}.png")
    with in_this_process():
        options = {"formats": "tflite", "precisions": "fp32,int8-weight", "calibration": photos, "check": False}
        result = convert(checkpoint, out=tmp_path / "out", **options)
    assert len(result.artifacts) == 2
    for artifact in result.artifacts:
        for file in artifact.path.parent.iterdir():
            content = file.read_bytes()
            for path in (tmp_path, Path.home(), REPOSITORY):
                assert str(path).encode() not in content, file
        assert artifact.manifest.origin.source == "../../private/mine.safetensors"
        assert Path(source_of(artifact)).samefile(checkpoint)


def test_a_checkpoint_far_away_is_named_and_asked_for(phone_files, tmp_path, monkeypatch):
    (tmp_path / "far").mkdir()
    path = Path(shutil.copy(phone_files.checkpoint().source, tmp_path / "far" / "mine.safetensors"))
    origin = origin_of(load_checkpoint(path), tmp_path / "here" / "out")
    assert origin.source == portable(str(path)) == "mine.safetensors"
    artifact = open_artifact(
        shutil.copytree(phone_files.artifact("tflite", "fp32").path.parent, tmp_path / "here" / "out" / "a")
    )
    write_manifest(artifact.path.parent, msgspec.structs.replace(artifact.manifest, origin=origin))
    artifact = open_artifact(artifact.path.parent)
    with pytest.raises(CheckpointError, match=r"it is the checkpoint that .* give it as `checkpoint`"):
        source_of(artifact)
    monkeypatch.chdir(path.parent)
    assert source_of(artifact) == "mine.safetensors"
