"""`convert` audits the phone graph before any converter runs: ours must be native, others' are warned about."""

from __future__ import annotations

import msgspec
import pytest
import torch
from helpers import sampled, tiny_spec
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


def convert(model_type, path, format_name="executorch", precision="fp32"):
    spec = tiny_spec()
    network = randomize(model_type(msgspec.convert(spec.config, MobileViTConfig)), 0).eval()
    return write_phone_file(network, spec, find_converter(format_name), precision, path)


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


class WithRank3Attention(MobileViT):
    """A network with a product of its pixels that has rank 3, and no other form that a delegate leaves."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = x.flatten(2)[:, :, :64].reshape(3, 8, 8)
        product = torch.bmm(heads, heads).reshape(1, 3, 8, 8) * 0.01
        return super().forward(x) + product.mean((2, 3), keepdim=True).reshape(1, 3)[:, :1]


@pytest.mark.parametrize("precision", sampled(["fp32", "fp16"], "fp16"))
def test_a_product_of_rank_3_in_a_user_s_graph_is_a_warning_in_tflite(precision, tmp_path, monkeypatch):
    _as_family(monkeypatch, WithRank3Attention)
    made = convert(WithRank3Attention, tmp_path / "model.tflite", "tflite", precision)
    assert made.inspection.hazards["BATCH_MATMUL of rank 3"] == 1
    before, after = made.warnings
    assert "litert-cpu will not take 1 operators" in before
    assert "a batched product of rank 3, which GPUs of phones compute wrongly" in before
    assert "GPUs of phones are reported to refuse or to compute wrongly: 1 x BATCH_MATMUL of rank 3" in after


def test_a_hazard_that_shows_in_the_file_alone_is_a_defect_where_the_graph_is_ours(tmp_path, monkeypatch):
    ours = type("WithRank3Attention", (WithRank3Attention,), {"__module__": "mobilevit_sdk.models.mobilevit"})
    _as_family(monkeypatch, ours)
    monkeypatch.setattr("mobilevit_sdk.conversion.phone_file.audit", lambda graph, target, size: [])
    with pytest.raises(ToolchainError, match=r"1 x BATCH_MATMUL of rank 3; this is a defect of the SDK"):
        convert(ours, tmp_path / "model.tflite", "tflite")
