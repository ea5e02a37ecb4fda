"""A folder of `export` is loaded by its name in timm and in transformers, and answers there as it does here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import tiny_model
from PIL import Image

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.export import export_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.release_config import release_config
from mobilevit_sdk.cli import main
from mobilevit_sdk.data import crop_image
from mobilevit_sdk.data.preprocessing import to_model_input
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model, model_spec
from mobilevit_sdk.spec import ModelSpec

CLASSES = ("ant", "bee", "cat", "dog", "eel")
FOLDERS = [
    ("mobilevit_xxs", "timm"),
    ("mobilevit_xxs", "transformers"),
    ("mobilevitv2_050", "timm"),
    ("mobilevitv2_050", "transformers"),
    ("vit_tiny_patch16_224", "timm"),
    ("vit_tiny_patch16_224", "transformers"),
    ("tiny_vit_5m_224", "timm"),
    ("efficientvit_m0", "timm"),
]


def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((400, 300), Image.Resampling.BICUBIC)


def scores_here(checkpoint: Checkpoint) -> np.ndarray:
    pixels = torch.from_numpy(crop_image(picture(), checkpoint.spec.preprocessing))[None]
    with torch.inference_mode():
        return checkpoint.model.eval()(to_model_input(pixels, checkpoint.spec.preprocessing))[0].numpy()


def checkpoint_of(model: str, folder: Path, *, bgr: bool) -> Checkpoint:
    spec: ModelSpec = model_spec(model, num_classes=len(CLASSES)).with_labels(CLASSES, "the test")
    if bgr:
        changed = msgspec.structs.replace(spec.preprocessing, channel_order="bgr", mean=(0.1, 0.3, 0.5))
        spec = msgspec.structs.replace(spec, preprocessing=changed)
    save_checkpoint(randomize(build_model(spec), 0), spec, folder / "own.safetensors")
    return load_checkpoint(folder / "own.safetensors")


def scores_in_timm(folder: Path) -> np.ndarray:
    timm = pytest.importorskip("timm", exc_type=ImportError)  # it needs torchvision, which CI does not have
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    image = timm.data.create_transform(**config, is_training=False)(picture())[None]
    with torch.inference_mode():
        return model(image)[0].numpy()


def scores_in_transformers(folder: Path) -> np.ndarray:
    transformers = pytest.importorskip("transformers")
    try:
        pipeline = transformers.pipeline("image-classification", str(folder), device="cpu")
    except ImportError as error:
        pytest.skip(f"transformers cannot prepare images here: {error}")
    found = {each["label"]: each["score"] for each in pipeline(picture(), top_k=100, function_to_apply="none")}
    return np.array([found[label] for label in pipeline.model.config.label2id])


def error_db(ours: np.ndarray, theirs: np.ndarray) -> float:
    centered = ours - ours.mean()
    return float(10 * np.log10((centered**2).sum() / (((ours - theirs) ** 2).sum() + 1e-30)))


@pytest.mark.slow
@pytest.mark.parametrize("bgr", [False, True], ids=["rgb", "bgr"])
@pytest.mark.parametrize(("model", "layout"), FOLDERS)
def test_the_library_answers_as_we_do_and_so_does_the_folder_here(model, layout, bgr, tmp_path):
    checkpoint = checkpoint_of(model, tmp_path, bgr=bgr)
    ours = scores_here(checkpoint)
    written = export_checkpoint(checkpoint, layout, tmp_path / "folder")
    assert any("reversed" in note for note in written.notes) == bgr
    again = load_checkpoint(written.path)
    assert again.spec.labels == (CLASSES if layout == "transformers" else again.spec.labels)
    assert error_db(ours, scores_here(again)) > 70  # another order of summation in the first convolution
    theirs = (scores_in_timm if layout == "timm" else scores_in_transformers)(tmp_path / "folder")
    assert error_db(ours, theirs) > 40  # their resizing may round a pixel otherwise


@pytest.mark.parametrize("layout", ["timm", "transformers"])
def test_the_model_that_ships_is_loaded_by_its_name_with_its_classes(layout, tmp_path):
    written = export_checkpoint(None, layout, tmp_path / "folder")
    expected = {"model.safetensors", "config.json", *(["preprocessor_config.json"] if layout != "timm" else [])}
    assert {path.name for path in (tmp_path / "folder").iterdir()} == expected
    shipped = load_checkpoint()
    again = load_checkpoint(written.path)
    assert (again.spec.config, again.spec.preprocessing) == (shipped.spec.config, shipped.spec.preprocessing)
    assert again.spec.labels == shipped.spec.labels
    ours = scores_here(shipped)
    theirs = (scores_in_timm if layout == "timm" else scores_in_transformers)(tmp_path / "folder")
    assert error_db(ours, theirs) > 40


def test_the_command_writes_a_folder_and_says_how_it_is_loaded(tmp_path):
    arguments = ["export", "--layout", "transformers", "--out", str(tmp_path / "folder"), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    assert document["path"] == str(tmp_path / "folder" / "model.safetensors")
    assert document["load_with"] == f"transformers.pipeline('image-classification', '{tmp_path / 'folder'}')"


def test_an_export_replaces_an_earlier_one_and_no_other_files(tmp_path):
    for _ in range(2):
        export_checkpoint(None, "timm", tmp_path / "folder")
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match=r"holds notes\.txt, too"):
        export_checkpoint(None, "timm", tmp_path / "folder")
    assert (tmp_path / "folder" / "notes.txt").read_text() == "mine"


def test_what_a_library_cannot_say_is_refused(tmp_path):
    with pytest.raises(RequestError, match="ml-cvnets has no folder"):
        export_checkpoint(None, "ml-cvnets", tmp_path / "folder")
    model, spec = tiny_model()
    save_checkpoint(model, spec, tmp_path / "tiny.safetensors")
    for layout in ("timm", "transformers"):
        with pytest.raises(RequestError, match=f"{layout} has no mobilevit_xxs with"):
            export_checkpoint(tmp_path / "tiny.safetensors", layout, tmp_path / "folder")
    shipped = load_checkpoint().spec
    twice = msgspec.structs.replace(shipped, labels=("same",) * 10)
    with pytest.raises(RequestError, match="the same name"):
        release_config(twice, "transformers")
    assert not (tmp_path / "folder").exists()
