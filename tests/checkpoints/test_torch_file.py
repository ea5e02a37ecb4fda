"""Weights inside of what trainers save: averages, options, counters and whatever else stands around them."""

from __future__ import annotations

import argparse
import collections
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.errors import CheckpointError


@pytest.fixture(scope="module")
def xxs() -> dict[str, torch.Tensor]:
    return create_model("mobilevit_xxs", num_classes=4).state_dict()


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "model_ema"])
def test_weights_inside_a_training_checkpoint_are_found(tmp_path: Path, xxs: dict[str, torch.Tensor], key: str) -> None:
    path = tmp_path / "training.pth"
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}, key: {f"module.{name}": t for name, t in xxs.items()}}, path)
    assert load_checkpoint(path).spec.num_classes == 4
    torch.save({"checkpoint": 1, "state_dict": {"model": xxs}}, path)
    assert load_checkpoint(path).spec.num_classes == 4


@pytest.mark.parametrize("wrap", [lambda names: names, lambda names: {"module": names}], ids=["plain", "module"])
@pytest.mark.parametrize("key", ["state_dict_ema", "ema_state_dict", "model_ema", "ema"])
def test_averaged_weights_are_preferred_and_said(
    tmp_path: Path, xxs: dict[str, torch.Tensor], key: str, wrap: Callable[[Any], Any]
) -> None:
    path = tmp_path / "training.pth"
    averaged = {**xxs, "head.bias": torch.full((4,), 7.0)}
    torch.save({"state_dict": xxs, "optimizer": {}, key: wrap(averaged), "epoch": 3}, path)
    checkpoint = load_checkpoint(path)
    assert torch.equal(checkpoint.model.get_parameter("head.bias"), averaged["head.bias"])
    assert checkpoint.notes == (f"took {key}, averaged weights (EMA), and left state_dict, optimizer, epoch",)


def test_averages_without_tensors_are_passed_over(tmp_path: Path, xxs: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "training.pth"
    torch.save({"model_ema": {}, "model": xxs}, path)
    assert load_checkpoint(path).notes == ("took model and left model_ema",)


def test_averaged_model_of_torch_is_read(tmp_path: Path) -> None:
    model = create_model("mobilevit_xxs", num_classes=4)
    path = tmp_path / "average.pth"
    torch.save(torch.optim.swa_utils.AveragedModel(model).state_dict(), path)
    checkpoint = load_checkpoint(path)
    assert torch.equal(checkpoint.model.get_parameter("head.weight"), model.get_parameter("head.weight"))
    assert checkpoint.notes == ("left n_averaged, a count of averaged models",)


class CfgNode(dict):
    """Like yacs.config.CfgNode, which is not installed: a dictionary with attributes."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.__dict__["frozen"] = True


def test_training_checkpoints_load_without_the_packages_of_their_trainers(
    tmp_path: Path, xxs: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Cream, timm and DeiT save beside the weights is stepped over; the class is not even there any more."""
    path = tmp_path / "training.pth"
    extras = {
        "args": argparse.Namespace(lr=0.1, output=Path("/out"), nested=argparse.Namespace(a=[1])),
        "config": CfgNode(MODEL=CfgNode(NAME="tiny"), LR=1e-3),
        "max_accuracy": np.float64(81.2),
        "history": np.arange(3.0),
        "metrics": collections.defaultdict(list, loss=[1.0]),
        "dtype": torch.float16,
        "torch": torch.__version__,
        "counts": collections.Counter("abc"),
    }
    with monkeypatch.context() as installed:
        yacs = types.ModuleType("yacs.config")
        yacs.CfgNode = CfgNode  # type: ignore[attr-defined]
        installed.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
        installed.setitem(sys.modules, "yacs.config", yacs)
        installed.setattr(CfgNode, "__module__", "yacs.config")
        torch.save({"model": xxs, **extras}, path)
    registered = set(torch.serialization.get_safe_globals())
    checkpoint = load_checkpoint(path)
    assert torch.equal(checkpoint.model.get_parameter("head.weight"), xxs["head.weight"])
    assert checkpoint.notes == ("took model and left args, config, max_accuracy, history, metrics, dtype and 2 more",)
    assert set(torch.serialization.get_safe_globals()) == registered


class Restored:
    """Not plain data: restoring it calls code."""

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("executed")


def test_other_classes_are_refused_and_not_called(tmp_path: Path, xxs: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "training.pth"
    restored = Restored()
    restored.__dict__["x"] = 1
    torch.save({"model": xxs, "scheduler": restored}, path)
    with pytest.raises(CheckpointError, match=r"holds more than tensors \(test_torch_file\.Restored\)"):
        load_checkpoint(path)
