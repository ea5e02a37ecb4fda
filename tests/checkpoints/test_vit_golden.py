"""Checkpoints of ViT and DeiT answer here as in timm and transformers; `golden/make_vit.py` made the answers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from golden.make_vit import ANSWERS, GROWN, NAMES, SHRUNK, vit_weights
from golden.weights import images
from torch import Tensor

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.errors import CheckpointError

# Case -> layout, registered model, fields of the config that are its own.
CASES = {
    "timm-vit": ("timm", "vit_tiny_patch16_224", {}),
    "timm-distilled": ("timm", "deit_tiny_distilled_patch16_224", {}),
    "timm-deit3": ("timm", "vit_tiny_patch16_224", {"layer_scale": True, "class_position": False}),
    "transformers-vit": ("transformers", "vit_tiny_patch16_224", {"norm_eps": 1e-12}),
    "transformers-deit": (
        "transformers-deit",
        "vit_tiny_patch16_224",
        {"norm_eps": 1e-12, "distillation_token": True},
    ),
    "transformers-distilled": ("transformers-deit", "deit_tiny_distilled_patch16_224", {"norm_eps": 1e-12}),
}
IMAGENET, HALF = (0.485, 0.456, 0.406), (0.5, 0.5, 0.5)


@cache
def names() -> dict[str, dict[str, list[int]]]:
    return json.loads(NAMES.read_text())


@cache
def answers() -> dict[str, Tensor]:
    return safetensors.torch.load_file(ANSWERS)


@cache
def released(case: str) -> dict[str, Tensor]:
    return vit_weights({name: tuple(shape) for name, shape in names()[case].items()})


def save(folder: Path, tensors: dict[str, Tensor], **files: object) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors"


def difference(checkpoint: Checkpoint, case: str, size: tuple[int, int] | None = None) -> float:
    expected = answers()[f"{case}/{size[0]}x{size[1]}" if size else case]
    answer = checkpoint.model(images(size, 1) if size else images((224, 224), 2))
    return ((answer - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_a_checkpoint_answers_as_its_release_does(tmp_path: Path, case: str) -> None:
    layout, model, options = CASES[case]
    checkpoint = load_checkpoint(save(tmp_path, released(case)))
    assert (checkpoint.layout, checkpoint.spec.model) == (layout, model)
    assert {name: checkpoint.spec.config[name] for name in options} == options
    assert difference(checkpoint, case) <= 1e-5
    assert checkpoint.spec.preprocessing.mean == (HALF if case.endswith("-vit") else IMAGENET)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("transformers")])
def test_names_of_a_network_in_memory_are_read_as_those_of_files(tmp_path: Path, case: str) -> None:
    in_memory = dict(zip(names()[f"{case}-memory"], released(case).values(), strict=True))
    checkpoint = load_checkpoint(save(tmp_path, in_memory))
    assert checkpoint.layout == CASES[case][0].replace("transformers", "transformers-5")
    (tmp_path / "files").mkdir()
    expected = load_checkpoint(save(tmp_path / "files", released(case))).model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in checkpoint.model.state_dict().items())


def test_scales_are_read_as_the_authors_of_deit_spell_them(tmp_path: Path) -> None:
    spelled = {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): tensor
        for name, tensor in released("timm-deit3").items()
    }
    torch.save({"model": spelled}, tmp_path / "deit_3.pth")
    checkpoint = load_checkpoint(tmp_path / "deit_3.pth")
    assert checkpoint.layout == "deit"
    assert difference(checkpoint, "timm-deit3") <= 1e-5


@torch.inference_mode()
def test_positions_shrink_as_in_timm_and_grow_as_in_transformers(tmp_path: Path) -> None:
    for case, size in (("timm-vit", SHRUNK), ("transformers-distilled", GROWN)):
        path = save(tmp_path, released(case))
        checkpoint = load_checkpoint(path, image_size=size)
        assert checkpoint.spec.config["image_size"] == list(size)
        assert f"positions were interpolated from 224x224 to {size[0]}x{size[1]} pixels" in checkpoint.notes
        assert difference(checkpoint, case, size) <= 1e-5
        as_it_is = load_checkpoint(path).model  # interpolates at every call
        assert torch.equal(as_it_is(images(size, 1)), checkpoint.model(images(size, 1)))


def test_what_no_weights_show_is_read_beside_them(tmp_path: Path) -> None:
    config = {"model_type": "vit", "hidden_size": 192, "num_attention_heads": 6, "layer_norm_eps": 1e-3}
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": 224, "width": 224},
        "do_normalize": True,
        "image_mean": IMAGENET,
        "image_std": (0.2, 0.2, 0.2),
    }
    path = save(tmp_path, released("transformers-vit"), config=config, preprocessor_config=processor)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.spec.config["norm_eps"], checkpoint.spec.config["num_heads"]) == (1e-3, 6)
    assert checkpoint.model.norm.eps == 1e-3
    assert checkpoint.model.blocks[0].attention.num_heads == 6
    assert (checkpoint.spec.preprocessing.mean, checkpoint.spec.preprocessing.std) == (IMAGENET, (0.2, 0.2, 0.2))


@pytest.mark.parametrize(
    ("key", "value"), [("hidden_act", "gelu_new"), ("layer_norm_eps", -1.0), ("qkv_bias", False), ("hidden_size", 384)]
)
def test_a_key_that_changes_the_network_is_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    path = save(tmp_path, released("transformers-vit"), config={"model_type": "vit", key: value})
    with pytest.raises(CheckpointError, match=key):
        load_checkpoint(path)


def test_two_networks_of_one_shape_are_told_apart_by_the_caller_or_a_file(tmp_path: Path) -> None:
    path = save(tmp_path, released("timm-vit"))
    (note,) = [note for note in load_checkpoint(path).notes if "deit_tiny_patch16_224" in note]
    assert "mean [0.5, 0.5, 0.5]" in note
    chosen = load_checkpoint(path, model="deit_tiny_patch16_224")
    assert (chosen.notes, chosen.spec.preprocessing.mean) == ((), IMAGENET)
    pretrained = {"mean": IMAGENET, "std": (0.229, 0.224, 0.225), "input_size": [3, 224, 224], "crop_pct": 0.9}
    config = {"architecture": "deit_tiny_patch16_224", "pretrained_cfg": pretrained}
    stated = load_checkpoint(save(tmp_path, released("timm-vit"), config=config))
    assert (stated.notes, stated.spec.preprocessing.mean) == ((), IMAGENET)
