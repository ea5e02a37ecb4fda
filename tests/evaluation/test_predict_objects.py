"""What a detector finds on single pictures: objects in their pixels, in JSON, in lines and in a picture."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from drawn_shapes import shape_pictures
from PIL import Image

from mobilevit_sdk.charts import BLUE
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.cli import main
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.detection_chart import COLORS
from mobilevit_sdk.evaluation.predict import NOT_FINITE, DetectedObject, Prediction, Predictions, predict
from mobilevit_sdk.evaluation.predict_chart import write_predictions_chart
from mobilevit_sdk.models.registry import model_spec, spec_at_size

OPTIONS = {
    "num_classes": 3,
    "dim": 16,
    "num_heads": 2,
    "mlp_dim": 32,
    "num_queries": 5,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "backbone_width": 8,
    "backbone_depths": (1, 1, 1, 1),
}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return random_checkpoint(spec_at_size(model_spec("detr_resnet50", **OPTIONS), 64, 96), 0)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """300 x 200 pixels."""
    path = tmp_path / "shapes.png"
    dataset = shape_pictures(1, seed=0)
    dataset.image(0).resize((300, 200)).save(path)
    return path


def test_all_queries_are_shown_in_order_where_nothing_is_asked_of_them(checkpoint: Checkpoint, picture: Path) -> None:
    (found,) = predict(picture, checkpoint, threshold=0).predictions
    assert found.classes is msgspec.UNSET
    assert found.objects
    assert len(found.objects) == 5
    probabilities = [each.probability for each in found.objects]
    assert probabilities == sorted(probabilities, reverse=True)
    for each in found.objects:
        x, y, width, height = each.box
        assert min(x, y, width, height) >= 0
        assert x + width <= 300 + 1e-6
        assert y + height <= 200 + 1e-6
    likely = sorted(probabilities)[2]
    (fewer,) = predict(picture, checkpoint, threshold=likely).predictions
    assert fewer.objects == found.objects[:3]


def test_nothing_found_is_an_answer_and_an_unread_picture_is_none(checkpoint: Checkpoint, picture: Path) -> None:
    missing = picture.with_name("missing.png")
    nothing, unread = predict([picture, missing], checkpoint, threshold=1).predictions
    assert (nothing.objects, nothing.problem, nothing.is_unread) == ((), None, False)
    assert (unread.objects, unread.problem, unread.is_unread) == (msgspec.UNSET, "no such file", True)
    with pytest.raises(RequestError, match="`threshold` is a probability"):
        predict(picture, checkpoint, threshold=1.5)


def test_answers_that_are_no_numbers_are_an_error_of_their_own(checkpoint: Checkpoint, picture: Path) -> None:
    broken = random_checkpoint(checkpoint.spec, 1)
    with torch.no_grad():
        broken.model.class_head.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    (found,) = predict(picture, broken).predictions
    assert (found.problem, found.objects, found.is_unread) == (NOT_FINITE, msgspec.UNSET, False)


def test_the_command_lists_boxes_in_lines_and_in_json(checkpoint: Checkpoint, picture: Path, tmp_path: Path) -> None:
    file = tmp_path / "detector.safetensors"
    save_checkpoint(checkpoint.model, checkpoint.spec, file)
    asked = ["predict", str(picture), "--checkpoint", str(file), "--threshold", "0"]
    lines = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert lines.exit_code == 0
    assert lines.stdout.count("class ") == 5
    found = json.loads(CliRunner().invoke(main, [*asked, "--json"], catch_exceptions=False).stdout)
    (prediction,) = found["predictions"]
    assert "classes" not in prediction
    assert {"index", "label", "probability", "box"} == prediction["objects"][0].keys()
    quiet = CliRunner().invoke(main, [*asked[:-1], "1"], catch_exceptions=False)
    assert "nothing found" in quiet.stdout


def test_a_picture_shows_each_box_in_the_color_of_its_class(picture: Path, tmp_path: Path) -> None:
    box = DetectedObject(index=len(COLORS), label="a $name$", probability=0.9, box=(60, 50, 120, 100))
    spec = model_spec("detr_resnet50")
    found = Predictions("detector", "pytorch", spec.preprocessing, (Prediction(str(picture), objects=(box,)),))
    assert write_predictions_chart(found, tmp_path / "found.png") == []
    pixels = np.asarray(Image.open(tmp_path / "found.png").convert("RGB")).astype(int)
    color = np.array([int(BLUE[i : i + 2], 16) for i in (1, 3, 5)])
    drawn = np.abs(pixels - color).max(2) < 8
    rows, columns = drawn.any(1).nonzero()[0], drawn.any(0).nonzero()[0]
    frame = (columns.max() - columns.min()) / (rows.max() - rows.min())
    assert 0.9 < frame < 1.4  # 120 x 100, with a label above
    nothing = Predictions("d", "pytorch", spec.preprocessing, (Prediction(str(picture), objects=()),))
    write_predictions_chart(nothing, tmp_path / "nothing.png")
    assert not (
        np.abs(np.asarray(Image.open(tmp_path / "nothing.png").convert("RGB")).astype(int) - color).max(2) < 8
    ).any()
