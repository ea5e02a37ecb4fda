"""What stands beside a detector's weights, and what their name says: DC5, classes, how images are prepared."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.coco import COCO_LABELS, UNUSED
from mobilevit_sdk.checkpoints.export import release_weights
from mobilevit_sdk.checkpoints.key_maps import all_key_maps
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.registry import model_spec

SMALL = {"dim": 16, "num_heads": 8, "mlp_dim": 24, "num_queries": 5, "encoder_layers": 1, "decoder_layers": 1}
SMALL |= {"backbone_width": 4, "backbone_depths": (1, 1, 1, 1)}
# As transformers 5.23 writes it of such a network, and as 4.18 wrote the published one.
NEW = {
    "model_type": "detr",
    "architectures": ["DetrForObjectDetection"],
    "backbone_config": {"model_type": "timm_backbone", "num_channels": 3, "output_stride": None, "out_indices": [4]},
    **{"num_channels": 3, "d_model": 16, "num_queries": 5, "encoder_layers": 1, "decoder_layers": 1},
    **{"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "encoder_attention_heads": 8, "decoder_attention_heads": 8},
    **{"activation_function": "relu", "position_embedding_type": "sine", "dilation": False, "dropout": 0.1},
    **{"bbox_cost": 5, "class_cost": 1, "giou_cost": 2, "eos_coefficient": 0.1, "is_encoder_decoder": True},
    **{"id2label": {"0": "cat", "1": "dog", "2": "bird"}, "label2id": {"cat": 0, "dog": 1, "bird": 2}},
}
OLD = {"feature_extractor_type": "DetrFeatureExtractor", "format": "coco_detection", "size": 800, "max_size": 1333}
OLD |= {"do_normalize": True, "do_resize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
PROCESSOR = {
    "image_processor_type": "DetrImageProcessor",
    **{"do_pad": True, "do_rescale": True, "do_resize": True, "do_normalize": True, "rescale_factor": 1 / 255},
    **{"do_convert_annotations": True, "format": "coco_detection", "resample": 2, "pad_size": None},
    **{"size": {"shortest_edge": 800, "longest_edge": 1333}},
    **{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
}


@cache
def network(num_classes: int, dilated: bool = False) -> Checkpoint:
    return random_checkpoint(model_spec("detr_resnet50", **SMALL, num_classes=num_classes, dilated=dilated), 0)


def save(folder: Path, release: str, num_classes: int, name: str = "model.safetensors", **files: Any) -> Path:
    checkpoint = network(num_classes)
    (layout,) = (each for each in all_key_maps() if (each.family, each.release) == ("detr", release))
    weights = release_weights(checkpoint.model, checkpoint.spec, layout)
    for each, content in files.items():
        (folder / f"{each}.json").write_text(json.dumps(content))
    path = folder / name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save({"model": weights}, path)
    return path


def notes_of(checkpoint: Checkpoint) -> list[str]:
    """But for the one on widths."""
    return [note for note in checkpoint.notes if "widths are read" not in note]


def test_all_that_transformers_writes_is_understood(tmp_path: Path) -> None:
    found = load_checkpoint(save(tmp_path, "transformers", 3, config=NEW, preprocessor_config=PROCESSOR))
    assert found.spec.labels == ("cat", "dog", "bird")
    assert (found.spec.model, found.spec.config["dilated"]) == ("detr_resnet50", False)
    assert found.spec.preprocessing == model_spec("detr_resnet50").preprocessing
    (note,) = notes_of(found)
    assert "squashed to 640x640" in note


@pytest.mark.parametrize("stated", [{"dilation": True}, {"backbone_config": {"output_stride": 16}}])
def test_config_says_that_the_last_stage_is_dilated(tmp_path: Path, stated: dict[str, Any]) -> None:
    config = {key: value for key, value in NEW.items() if key != "dilation"} | stated
    found = load_checkpoint(save(tmp_path, "transformers", 3, config=config))
    assert found.spec.model == "detr_resnet50_dc5"
    assert notes_of(found) == []
    image = torch.rand(1, 3, 64, 64)
    for one, other in zip(found.model(image), network(3, dilated=True).model(image), strict=True):
        assert not torch.equal(one, network(3).model(image)[0])
        assert one.shape == other.shape
    assert found.model.map_size(64, 64) == (4, 4)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dilation": True, "backbone_config": {"output_stride": 32}}, "do not agree"),
        ({"dilation": "yes"}, "dilation"),
        ({"backbone": "resnet101"}, "resnet101"),
        ({"backbone_config": {"depths": [3, 4, 6, 3]}}, "depths"),
        ({"backbone_config": {"output_stride": 8}}, "output_stride"),
        ({"position_embedding_type": "learned"}, "position_embedding_type"),
        ({"d_model": 32}, "d_model"),
        ({"num_queries": 6}, "num_queries"),
        ({"decoder_attention_heads": 4}, "decoder_attention_heads"),
        ({"id2label": {"0": "cat"}, "label2id": None}, "id2label"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(save(tmp_path, "transformers", 3, config=NEW | config))


def test_two_statements_on_dilation_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, "transformers", 3, config=NEW | {"dilation": True})
    with pytest.raises(CheckpointError, match="dilation is true"):
        load_checkpoint(path, model="detr_resnet50")
    assert load_checkpoint(path, model="detr_resnet50_dc5").spec.config["dilated"] is True


def test_the_number_of_heads_is_read(tmp_path: Path) -> None:
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    found = load_checkpoint(save(tmp_path, "transformers", 3, config=NEW | heads))
    assert found.spec.config["num_heads"] == 4
    assert any("4 heads" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "dilated"),
    [("detr-r50-dc5-f0fb7ef5.pth", True), ("detr-r50-e632da11.pth", False), ("mydc5x.pth", False), ("DC5.pth", True)],
)
def test_a_file_name_is_a_hint_that_is_said(tmp_path: Path, name: str, dilated: bool) -> None:
    path = save(tmp_path, "detr", 3, name)
    found = load_checkpoint(path)
    other = "detr_resnet50" if dilated else "detr_resnet50_dc5"
    assert found.spec.config["dilated"] is dilated
    assert (found.spec.model == "detr_resnet50_dc5") is dilated
    assert any(f"`model={other}`" in note for note in found.notes)
    asked = load_checkpoint(path, model=other)
    assert (asked.spec.model, asked.spec.config["dilated"], notes_of(asked)) == (other, not dilated, [])


def test_the_authors_file_of_91_classes_gets_the_names_of_coco(tmp_path: Path) -> None:
    found = load_checkpoint(save(tmp_path, "detr", 91, "detr-r50.pth"))
    assert found.spec.labels == COCO_LABELS
    assert any("COCO" in note for note in found.notes)
    assert load_checkpoint(save(tmp_path, "detr", 80, "own.pth")).spec.labels is None
    assert load_checkpoint(save(tmp_path, "transformers", 91, "x.safetensors")).spec.labels is None


def test_names_of_coco_stand_at_the_numbers_of_its_categories() -> None:
    assert (len(COCO_LABELS), COCO_LABELS.count(UNUSED), len(set(COCO_LABELS))) == (91, 11, 81)
    numbers = {"person": 1, "stop sign": 13, "dog": 18, "umbrella": 28, "bottle": 44, "pizza": 59, "toilet": 70}
    numbers |= {"dining table": 67, "tv": 72, "book": 84, "toothbrush": 90, "backpack": 27, "handbag": 31}
    assert {name: COCO_LABELS.index(name) for name in numbers} == numbers


def test_values_of_an_old_feature_extractor_are_followed(tmp_path: Path) -> None:
    found = load_checkpoint(save(tmp_path, "transformers", 3, config=NEW, preprocessor_config=OLD))
    assert (found.spec.preprocessing.mean, found.spec.preprocessing.std) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    assert found.spec.preprocessing.resize_mode == "squash"
    assert any("DetrFeatureExtractor" in note for note in found.notes)
    asked = load_checkpoint(tmp_path / "model.safetensors", image_size=(96, 128))
    assert asked.spec.preprocessing.image_size == (96, 128)
    assert not any("squashed" in note for note in asked.notes)


def test_one_size_for_all_pictures_is_taken(tmp_path: Path) -> None:
    fixed = PROCESSOR | {"size": {"height": 96, "width": 128}}
    found = load_checkpoint(save(tmp_path, "transformers", 3, config=NEW, preprocessor_config=fixed))
    assert found.spec.preprocessing.image_size == (96, 128)
    assert notes_of(found) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"shortest_edge": 1400, "longest_edge": 1333}}, "shorter"),
        ({"size": {"sides": 3}}, "size has sides"),
        ({"size": "800"}, "size"),
        ({"size": 0}, "size"),
        ({"do_resize": False}, "do_resize"),
        ({"do_thumbnail": True}, "do_thumbnail"),
        ({"resample": 0}, "resample"),
        ({"image_std": [0, 1, 1]}, "std"),
        ({"image_mean": [123.0, 117.0, 104.0]}, "divide mean"),
    ],
)
def test_malformed_preprocessing_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(save(tmp_path, "transformers", 3, config=NEW, preprocessor_config=PROCESSOR | change))


def test_a_detector_of_other_names_says_what_is_known(tmp_path: Path) -> None:
    torch.save({"bbox_head.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="classifiers and DETR"):
        load_checkpoint(tmp_path / "other.pth")
