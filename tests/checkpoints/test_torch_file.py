"""Weights inside of what trainers save: averages, options, counters and whatever else stands around them."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import refused
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.tensor_file import read_tensors
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
@pytest.mark.parametrize(
    "key", ["state_dict_ema", "ema_state_dict", "model_ema", "ema", "modelEMA", "EMAModel", "swa_model", "avg_params"]
)
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
    count = len(model.state_dict())
    assert checkpoint.notes == (f"took module. off {count} names", "left 1 tensor of no network: n_averaged")


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


class Plain:
    """An object whose class stands in this module; another test takes it away."""

    def __init__(self) -> None:
        self.value = [1, {"a": self.__class__}]


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 1


class Attributes(dict):
    """A dictionary that is filled item by item and then given a state."""


class Items(list):
    pass


class Outer:
    class Inner:
        def __init__(self) -> None:
            self.value = (1,)


class Phase(enum.Enum):
    TRAIN = 1


def beside() -> dict[str, Any]:
    attributes = Attributes(lr=Attributes(start=0.1))
    attributes.name = "options"  # type: ignore[attr-defined]
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    optimizer.param_groups[0]["params"][0].sum().backward()
    optimizer.step()
    return {
        "args": argparse.Namespace(lr=0.1, output=Path("/out"), nested=argparse.Namespace(a=[Plain()])),
        "plain": Plain(),
        "slotted": Slotted(),
        "attributes": attributes,
        "list": Items([1, Items([2])]),
        "nested class": Outer.Inner(),
        "enum": {Phase.TRAIN: 3},
        "date": datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc),
        "partial": functools.partial(int, base=3),
        "method": Plain().__init__,  # type: ignore[misc]
        "function": time.time,
        "class": Plain,
        "numpy": [np.float64(81.2), np.arange(3.0), np.dtype("f4"), np.random.default_rng(0)],
        "path": Path("/out"),
        "containers": [collections.defaultdict(list, a=[1]), collections.deque([1], 4), frozenset([1]), range(3)],
        "numbers": [fractions.Fraction(1, 3), decimal.Decimal("0.1"), 1j, 2**100],
        "bytes": [b"a", bytearray(b"b")],
        "loss": torch.nn.CrossEntropyLoss(),
        "optimizer": optimizer,
        "optimizer_state": optimizer.state_dict(),
        "best": torch.tensor(0.5),
        "confusion": {"matrix": torch.ones(4, 4)},
    }


@pytest.mark.parametrize("legacy", [False, True])
@given(names=st.sets(st.sampled_from(sorted(beside())), min_size=1), entry=st.sampled_from(["model", "weights", "x.y"]))
def test_whatever_lies_beside_the_weights_they_are_read_and_nothing_is_imported(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], entry: str, legacy: bool
) -> None:
    path = tmp_path_factory.mktemp("beside") / "training.pth"
    weights = {f"layer{i}.weight": torch.rand(2, 3) for i in range(12)}
    if legacy:
        names -= {"loss", "optimizer"}  # modules stand there with their source code, which torch does not read
    extras = {name: beside()[name] for name in names}
    torch.save({entry: weights, **extras}, path, _use_new_zipfile_serialization=not legacy)
    registered = set(torch.serialization.get_safe_globals())
    file = read_tensors(path)
    assert file.tensors.keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in file.tensors.items())
    assert all(note.startswith(f"took {entry} and left ") for note in file.notes)
    assert set(torch.serialization.get_safe_globals()) == registered


class Hostile:
    """Calls something when it is restored, as a pickle can."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


class Restored:
    """Restoring it calls code of its own."""

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("executed")


@pytest.mark.parametrize("place", ["beside", "among the tensors", "as a key", "alone"])
@pytest.mark.parametrize("kind", ["eval", "popen", "import", "getattr", "system", "setstate"])
def test_hostile_pickles_are_harmless(tmp_path: Path, kind: str, place: str) -> None:
    """Refused, or read without a call: a file that the attack would have made is never there."""
    proof = tmp_path / "proof"
    restored = Restored()
    restored.__dict__["x"] = 1
    attack = {
        "eval": Hostile(eval, f"open({str(proof)!r}, 'w')"),
        "popen": Hostile(subprocess.Popen, ["touch", str(proof)]),
        "import": Hostile(importlib.import_module, "antigravity"),
        "getattr": Hostile(getattr, torch.nn.Module, "load_state_dict"),
        "system": Hostile(os.system, f"touch {proof}"),
        "setstate": restored,
    }[kind]
    weights: dict[Any, Any] = {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2)}
    content = {
        "beside": {"model": weights, "hook": attack},
        "among the tensors": weights | {"hook": attack},
        "as a key": weights | {attack: 1},
        "alone": attack,
    }[place]
    path = tmp_path / "hostile.pth"
    torch.save(content, path)
    before = set(sys.modules)
    load = torch.nn.Module.load_state_dict
    if kind == "system" or place == "alone":
        with pytest.raises(CheckpointError, match=r"holds (more than tensors \((posix|nt)\.system\)|a pickled )"):
            read_tensors(path)
    else:
        assert read_tensors(path).tensors.keys() == {"a.weight", "b.weight"}
    assert not proof.exists()
    assert "antigravity" not in set(sys.modules) - before
    assert torch.nn.Module.load_state_dict is load


def test_whole_modules_are_named_with_what_to_type(tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    for content, keys in ((torch.nn.Linear(2, 2), ""), ({"epoch": 1, "model": torch.nn.Linear(2, 2)}, '["model"]')):
        torch.save(content, path)
        message = refused(path)
        assert "a pickled torch.nn.modules.linear.Linear" in message
        assert f"torch.save(torch.load(FILE, weights_only=False){keys}.state_dict()" in message


_words = st.sampled_from(["optimized", "graduated", "weights", "0", "params", "generator"])


@given(path=st.lists(_words | st.from_regex(r"[a-z_]{3,9}", fullmatch=True), min_size=1, max_size=3))
def test_the_one_entry_with_tensors_is_taken_whatever_its_name(
    tmp_path_factory: pytest.TempPathFactory, path: list[str]
) -> None:
    weights: Any = {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2)}
    content = weights
    for key in reversed(path):
        content = {"epoch": 1, key: content} if key != "epoch" else {key: content}
    file = tmp_path_factory.mktemp("entry") / "training.pth"
    torch.save(content, file)
    found = read_tensors(file)
    assert found.tensors.keys() == weights.keys()


def test_several_entries_are_named_to_choose_from(tmp_path: Path) -> None:
    path = tmp_path / "training.pth"
    weights = {"a.weight": torch.ones(2, 2)}
    torch.save({"net": {"teacher": weights, "student": weights}, "epoch": 1}, path)
    assert refused(path) == (
        "holds several networks (net.teacher, net.student); save the one to use: "
        'torch.save(torch.load(FILE, weights_only=False)["net"]["teacher"], "weights.pth")'
    )
    torch.save({"ema_fast": weights, "ema_slow": weights, "model": weights}, path)
    assert "holds several networks (ema_fast, ema_slow)" in refused(path)


def test_other_pickle_protocols_are_named(tmp_path: Path, xxs: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "training.pth"
    torch.save(xxs, path, pickle_protocol=4)
    assert "another pickle_protocol than 2" in refused(path)
