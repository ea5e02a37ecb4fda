"""Checkpoints of DETR answer here as in transformers (`golden/make_detr.py` made the answers) and as by its authors."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from golden.make_detr import ANSWERS, NAMES, SIZE, detr_weights
from golden.weights import images
from official_detr import OfficialDETR
from torch import Tensor

from mobilevit_sdk.checkpoints.load import load_checkpoint

Answers = tuple[Tensor, Tensor]


@cache
def in_memory() -> dict[str, Tensor]:
    shapes = json.loads(NAMES.read_text())["memory"]
    return detr_weights({name: tuple(shape) for name, shape in shapes.items()})


def in_files() -> dict[str, Tensor]:
    return {name: in_memory()[memory] for name, memory in json.loads(NAMES.read_text())["files"].items()}


def differences(answers: Answers, expected: Answers) -> list[float]:
    """Of logits and boxes, relative to the largest."""
    return [float((one - other).abs().max() / other.abs().max()) for one, other in zip(answers, expected, strict=True)]


def queries_differ(answers: Answers) -> bool:
    """By a good part of all that varies; parity of queries that answer alike would prove nothing about them."""
    return all(each.std(1).mean() > 0.05 * each.std() for each in answers)


@pytest.mark.parametrize(("names", "layout"), [("files", "transformers-resnet"), ("memory", "transformers-5-resnet")])
@torch.inference_mode()
def test_a_checkpoint_answers_as_in_transformers(tmp_path: Path, names: str, layout: str) -> None:
    path = tmp_path / "detr.safetensors"
    safetensors.torch.save_file(in_files() if names == "files" else in_memory(), path)
    checkpoint = load_checkpoint(path)
    golden = safetensors.torch.load_file(ANSWERS)
    expected = golden["logits"], golden["boxes"]
    assert (checkpoint.layout, checkpoint.spec.num_classes, checkpoint.spec.num_queries) == (layout, 11, 6)
    assert queries_differ(expected)
    assert max(differences(checkpoint.model.double()(images(SIZE, 2).double()), expected)) <= 1e-5


@pytest.mark.parametrize("dilated", [False, True], ids=["plain", "DC5"])
@torch.inference_mode()
def test_a_checkpoint_answers_as_by_the_authors(tmp_path: Path, dilated: bool) -> None:
    network = OfficialDETR(classes=11, dilated=dilated).eval()
    shapes = {name: tuple(each.shape) for name, each in network.state_dict().items() if "num_batches" not in name}
    made = detr_weights(shapes)
    network.load_state_dict(made)  # torch allows for counts of batches to be absent
    torch.save({"model": made, "epoch": 3}, tmp_path / "checkpoint.pth")
    checkpoint = load_checkpoint(tmp_path / "checkpoint.pth", model="detr_resnet50_dc5" if dilated else "detr_resnet50")
    expected = network.double()(images(SIZE, 2).double())
    assert checkpoint.layout == "detr"
    assert queries_differ(expected)
    assert max(differences(checkpoint.model.double()(images(SIZE, 2).double()), expected)) <= 1e-5
