"""How images are prepared, as the files beside weights say it, as a caller says it, and as transformers does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilevit_sdk.checkpoints.beside.keys import Keys
from mobilevit_sdk.checkpoints.beside.preprocessing import changed, from_transformers
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.preparation import Preparation
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.data.preprocessing import crop_image
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.registry import model_spec
from mobilevit_sdk.spec import Preprocessing

SMALL = {"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 40}, "resample": 3}
NORMALIZED = {"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
DEFAULT = Preprocessing(image_size=(256, 256), resize_size=288)


def ours(settings: dict[str, Any], image: Image.Image) -> np.ndarray:
    preprocessing = changed(DEFAULT, from_transformers(Keys(settings), DEFAULT))
    return to_model_input(torch.from_numpy(crop_image(image, preprocessing))[None], preprocessing).numpy()[0]


PROCESSORS = [
    ("MobileViTImageProcessor", {}),
    ("MobileViTImageProcessor", {"do_flip_channel_order": False}),
    ("MobileViTImageProcessor", {"do_rescale": False}),
    ("MobileViTImageProcessor", {"rescale_factor": 1.0, "do_flip_channel_order": False}),
    ("MobileViTImageProcessor", {"rescale_factor": 1 / 127.5, "resample": 2}),
    ("MobileNetV2ImageProcessor", {}),
    ("MobileNetV2ImageProcessor", NORMALIZED),
    ("MobileNetV2ImageProcessor", {"do_rescale": False, **NORMALIZED}),
    ("MobileNetV2ImageProcessor", {"do_normalize": False}),
    ("ViTImageProcessor", {"size": {"height": 40, "width": 32}, "crop_size": None}),
]


@pytest.mark.parametrize(("name", "settings"), PROCESSORS)
def test_images_are_prepared_as_transformers_does(name: str, settings: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
    asked = {key: value for key, value in (SMALL | settings).items() if value is not None}
    made = processor(**asked)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 56, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    expected = made(image, return_tensors="np")["pixel_values"][0]
    stated = json.loads(made.to_json_string())
    answer = ours(stated, image)
    assert answer.shape == expected.shape
    assert np.abs(answer - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"do_resize": False}, "do_resize is false"),
        ({"do_center_crop": False}, "do_center_crop is false"),
        ({"size": 224, "crop_size": 256}, "size 224 is less than crop_size 256x256"),
        ({"size": {"height": 256, "width": 256}, "crop_size": 224}, "squashes pictures to size 256x256"),
        ({"image_processor_type": "MobileViTImageProcessor", **NORMALIZED}, "MobileViTImageProcessor never normalizes"),
        ({"do_normalize": True}, "do_normalize is true without image_mean"),
        ({"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}, "stand without do_normalize"),
        ({"do_normalize": True, "image_mean": [float("nan")] * 3, "image_std": [0.2] * 3}, "must be finite"),
        ({"do_normalize": True, "image_mean": [0.4] * 3, "image_std": [float("inf")] * 3}, "must be finite"),
        ({"do_normalize": True, "image_mean": [123.7, 116.3, 103.5], "image_std": [58.4] * 3}, "pixels from 0 to 255"),
        ({"image_processor_type": "ConvNextImageProcessor"}, "ConvNextImageProcessor prepares images in a way of its"),
        ({"do_pad": True}, "do_pad is true"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
        ({"image_processor_type": "ViTFeatureExtractor", "size": 224}, "both sides or the shorter one"),
        ({"do_flip_channel_order": "yes"}, "do_flip_channel_order is"),
    ],
)
def test_what_cannot_be_reproduced_is_refused_by_name(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        changed(DEFAULT, from_transformers(Keys(settings), DEFAULT))


@pytest.mark.parametrize(
    ("settings", "given", "skipped"),
    [
        ({"do_resize": False}, {"image_size", "resize_size", "resize_mode"}, True),
        ({"do_resize": False}, {"image_size"}, False),
        ({"image_processor_type": "MobileViTImageProcessor", **NORMALIZED}, {"mean", "std"}, True),
        ({"image_processor_type": "MobileViTImageProcessor", **NORMALIZED}, {"mean"}, False),
        ({"resample": 0}, {"interpolation"}, True),
    ],
)
def test_what_the_caller_decides_does_not_stand_in_the_way(
    settings: dict[str, Any], given: set[str], skipped: bool
) -> None:
    keys = Keys(settings)
    if skipped:
        assert given.isdisjoint(from_transformers(keys, DEFAULT, given))
        assert keys.left() == []
    else:
        with pytest.raises(ValueError, match="give"):
            from_transformers(keys, DEFAULT, given)


@given(st.lists(st.floats(1.5, 255), min_size=3, max_size=3))
def test_a_mean_of_pixels_to_255_is_refused_with_the_right_one(mean: list[float]) -> None:
    with pytest.raises(RequestError, match="divide mean and std by 255") as caught:
        Preparation(fields={"mean": tuple(mean)})
    assert f"{mean[0] / 255:.4g}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"crop_pct": 0.5, "input_size": [3, 64, 96], "mean": [0.1] * 3},
            "shorter side to 128 (bicubic), center 64x96",
        ),
        ({"architecture": "x", "pretrained_cfg": {"input_size": [3, 64, 64], "crop_pct": 1}}, "shorter side to 64"),
        ({**SMALL, "do_flip_channel_order": True}, "shorter side to 48 (bicubic), center 40x40, BGR"),
    ],
)
def test_a_file_of_the_user_s_says_it_for_any_checkpoint(tmp_path: Path, content: Any, expected: str) -> None:
    path = tmp_path / "images.json"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    spec = model_spec("mobilevitv2_050")
    found, _ = Preparation(preprocessing=path).apply(spec)
    assert found.preprocessing.describe().startswith(expected)
    assert found.preprocessing_source == "images.json"
    found, _ = Preparation(preprocessing=path, fields={"channel_order": "rgb"}).apply(spec)
    assert found.preprocessing.channel_order == "rgb"
    assert found.preprocessing_source == "channel_order as asked for; the rest: images.json"


def test_mean_and_std_stay_with_their_colors_when_the_channels_are_turned(tmp_path: Path) -> None:
    spec = model_spec("tiny_vit_5m_224")
    own = spec.preprocessing
    turned = Preparation(fields={"channel_order": "bgr"}).apply(spec)[0].preprocessing
    assert (turned.mean, turned.std) == (own.mean[::-1], own.std[::-1])
    stated = Preparation(fields={"channel_order": "bgr", "mean": own.mean}).apply(spec)[0].preprocessing
    assert (stated.mean, stated.std) == (own.mean, own.std[::-1])
    assert Preparation(fields={"channel_order": "rgb"}).apply(spec)[0].preprocessing == own
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"input_size": [3, 64, 64], "crop_pct": 1}}))
    bgr = msgspec.structs.replace(spec, preprocessing=turned)
    timm = Preparation(preprocessing=tmp_path / "config.json").apply(bgr)[0].preprocessing
    assert (timm.channel_order, timm.mean) == ("rgb", own.mean), "timm feeds RGB"


@pytest.mark.parametrize("content", ["{}", '{"id2label": {"0": "a"}}', "[]", "no JSON"])
def test_a_file_that_says_nothing_of_images_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "images.json"
    path.write_text(content)
    with pytest.raises(RequestError, match=r"images\.json"):
        Preparation(preprocessing=path).apply(model_spec("mobilevit_xxs"))
    with pytest.raises(RequestError, match="does not exist"):
        Preparation(preprocessing=tmp_path / "none.json").apply(model_spec("mobilevit_xxs"))


def test_python_says_it_in_fields_or_whole() -> None:
    fields = load_checkpoint(preprocessing={"mean": (0.5,) * 3, "std": (0.25,) * 3}, image_size=(64, 96))
    assert fields.spec.preprocessing.image_size == (64, 96)
    assert fields.spec.preprocessing.std == (0.25,) * 3
    assert fields.spec.preprocessing_source == (
        "image_size, mean, std as asked for; the rest: the header of the checkpoint"
    )
    whole = load_checkpoint(preprocessing=fields.spec.preprocessing, license="CC0-1.0")
    assert whole.spec.preprocessing == fields.spec.preprocessing
    assert whole.spec.license == "CC0-1.0"
    with pytest.raises(RequestError, match="no windows 'scaled'; did you mean scale"):
        Preparation(windows="scaled")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="an empty license says nothing"):
        load_checkpoint(license=" ")
    with pytest.raises(RequestError, match="preprocessing has no mean_rgb"):
        load_checkpoint(preprocessing={"mean_rgb": 1})
    with pytest.raises(RequestError, match="does not hold the crop of 64x64"):
        load_checkpoint(preprocessing={"resize_size": 48})
