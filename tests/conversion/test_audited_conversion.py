"""`convert` audits the phone graph before any converter runs: ours must be native, others' are warned about."""

from __future__ import annotations

import msgspec
import pytest
import torch
from helpers import tiny_spec
from torch import nn

from mobilevit_sdk.conversion.phone_file import write_phone_file
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.models import registry
from mobilevit_sdk.models.mobilevit import MobileViT, MobileViTConfig
from mobilevit_sdk.models.random_weights import randomize


class WithSum(MobileViT):
    """A network whose last sum no delegate takes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x.sum((1, 2, 3))[:, None]


def convert(model_type, path):
    spec = tiny_spec()
    network = randomize(model_type(msgspec.convert(spec.config, MobileViTConfig)), 0).eval()
    return write_phone_file(network, spec, find_converter("executorch"), "fp32", path)


def _as_family(monkeypatch, model_type: type[nn.Module]) -> None:
    monkeypatch.setitem(registry._families, "mobilevit", registry.Family("mobilevit", MobileViTConfig, model_type))


def test_a_graph_of_ours_that_leaves_the_delegate_is_a_defect_and_fails(tmp_path, monkeypatch):
    ours = type("WithSum", (WithSum,), {"__module__": "mobilevit_sdk.models.mobilevit"})
    _as_family(monkeypatch, ours)
    with pytest.raises(ToolchainError, match=r"xnnpack will not take .* such as sum.*defect of the SDK"):
        convert(ours, tmp_path / "model.pte")
    assert not (tmp_path / "model.pte").exists()


def test_a_graph_of_a_user_s_family_converts_with_a_warning(tmp_path, monkeypatch):
    _as_family(monkeypatch, WithSum)
    (warning,) = convert(WithSum, tmp_path / "model.pte").warnings
    assert "xnnpack will not take" in warning
    assert "sum.dim_IntList" in warning
    assert (tmp_path / "model.pte").exists()


def test_a_native_graph_converts_without_a_warning(tmp_path):
    assert convert(MobileViT, tmp_path / "model.pte").warnings == ()
