"""Weights that are finite and answers that are not: the network is blamed, before any toolchain starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import refused, tiny_model

from mobilevit_sdk.artifacts.reference import check_answers, reference_of
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.conversion import pipeline
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.pruning import run as pruning_run
from mobilevit_sdk.pruning.request import Request
from mobilevit_sdk.quantization.calibrated import calibration_for


@pytest.fixture
def overflowing(tmp_path):
    """A checkpoint whose largest activations exceed float32."""
    model, spec = tiny_model()
    with torch.no_grad():
        model.get_submodule("stages.1.1.local_project").weight *= 1e37
    path = tmp_path / "overflowing.safetensors"
    save_checkpoint(model, spec, path)
    return path


def test_where_the_answers_break_is_named(overflowing):
    checkpoint = load_checkpoint(overflowing)
    with pytest.raises(CheckpointError) as caught:
        check_answers(checkpoint.model, checkpoint.spec.preprocessing)
    message = str(caught.value)
    assert message.startswith("the network answers 'noise' with NaN or infinity, in PyTorch already")
    assert "they begin in stages.1.1.transformer.0.norm1 (LayerNorm), whose input reaches" in message


def test_every_case_is_looked_at():
    """A network that breaks on white pixels alone."""

    class Bright(torch.nn.Module):
        def forward(self, x):
            return torch.where(x.amin() > 0.99, torch.nan, x.mean((2, 3)))

    _, spec = tiny_model()
    plain = spec.preprocessing.__class__(image_size=(32, 32), resize_size=32)
    cases = tuple(Case(name, np.full((3, 32, 32), value, np.uint8)) for name, value in (("black", 0), ("white", 255)))
    with pytest.raises(CheckpointError, match=r"answers 'white' with NaN .*begin outside of its modules"):
        reference_of(Bright(), plain, cases)
    assert reference_of(Bright(), plain, cases[:1]).answers.shape == (1, 3)


@pytest.mark.parametrize("start", ["convert", "quantize", "prune"])
def test_no_toolchain_starts_and_nothing_is_left(overflowing, tmp_path, monkeypatch, start):
    def started(*args, **options):
        raise AssertionError("too late")

    monkeypatch.setattr(pipeline, "write_artifact_folder", started)
    monkeypatch.setattr(pruning_run, "prune_network", started)
    checkpoint, out = load_checkpoint(overflowing), tmp_path / "out"
    starts = {
        "convert": lambda: pipeline.convert(checkpoint, out=out, formats=["tflite"], precisions=["fp32"]),
        "quantize": lambda: calibration_for(checkpoint, QuantizationRecipe(), None, out, started),
        "prune": lambda: pruning_run.prune_into(out, checkpoint, Request(keep=0.5)),
    }
    with pytest.raises(CheckpointError, match="in PyTorch already"):
        starts[start]()
    assert not out.exists()


@pytest.mark.parametrize("value", [-1e-3, -float("inf"), float("nan")])
def test_statistics_that_no_training_makes_are_named_at_load(tmp_path, value):
    model, spec = tiny_model()
    model.get_submodule("stages.0.0.expand.norm").running_var[1] = value
    path = tmp_path / "weights.safetensors"
    save_checkpoint(model, spec, path)
    message = refused(path)
    kind = "variances below 0" if value > -float("inf") else "NaN or infinity"
    assert f"holds {kind} in stages.0.0.expand.norm.running_var" in message


def test_a_variance_of_zero_is_taken(tmp_path):
    """A channel that is always the same has one."""
    model, spec = tiny_model()
    model.get_submodule("stages.0.0.expand.norm").running_var[1] = 0.0
    path = tmp_path / "weights.safetensors"
    save_checkpoint(model, spec, path)
    assert isinstance(load_checkpoint(path), Checkpoint)
