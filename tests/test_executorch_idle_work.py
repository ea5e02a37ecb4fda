"""Lowering without idle work: the same file, byte for byte, from fewer passes."""

from __future__ import annotations

from contextlib import nullcontext, suppress

import pytest
import torch
from helpers import randomize, tiny_model
from torch import Tensor, nn
from torch.fx import traceback

from mobilevit_sdk.deployment import deploy

pytest.importorskip("executorch.exir", reason="needs the extra executorch")
from executorch.backends.xnnpack._passes import XNNPACKPassManager

from converters.executorch import convert as executorch_convert
from converters.executorch.idle_work import LOOKS_FOR, is_needed, without_idle_work


class Everything(nn.Module):
    """One use at least of what each pass looks for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1d = nn.Conv1d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.after = nn.BatchNorm2d(4)
        self.prelu = nn.PReLU()
        self.linear = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = self.after(self.prelu(nn.functional.max_pool2d(x, 2)))
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = torch.cat((x, -x, x + x, x * x, x - 1, torch.sigmoid(x)), dim=1)[:, :24]
        y = self.conv1d(x[:, :4].flatten(2)).mean()
        tokens = x.flatten(2).transpose(1, 2)
        attended = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.linear(attended.clone().mean(1)).softmax(-1) + y


def lowered(graph: nn.Module, size: int, fast: bool) -> tuple[bytes, list[str]]:
    """The program, and the passes that ran."""
    ran: list[str] = []
    transform = XNNPACKPassManager.transform

    def spy(self: XNNPACKPassManager) -> object:
        ran.extend(each.__name__ for each in self.passes)
        return transform(self)

    program = torch.export.export(graph.eval(), (torch.zeros(1, 3, size, size),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(XNNPACKPassManager, "transform", spy)
        if not fast:
            patch.setattr(executorch_convert, "without_idle_work", nullcontext)
        return executorch_convert._lower_to_xnnpack(program, {}), ran


@pytest.mark.parametrize("family", ["mobilevit", "all operators"])
def test_the_file_is_the_same_byte_for_byte(family):
    size = 32
    if family == "mobilevit":
        model, spec = tiny_model()
        graph = deploy(model, "xnnpack", preprocessing=spec.preprocessing)
        size = spec.preprocessing.image_size[0]
    else:
        graph = randomize(Everything(), 0).eval()
    expected, all_passes = lowered(graph, size, fast=False)
    file, passes = lowered(graph, size, fast=True)
    assert file == expected
    assert LOOKS_FOR.keys() <= set(all_passes)  # or ExecuTorch has renamed one
    if family == "mobilevit":
        assert len(passes) < len(all_passes) / 2


class Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


def test_a_pass_that_is_not_known_always_runs():
    program = torch.export.export(Plain(), (torch.zeros(2, 3),))
    assert is_needed("SomeNewPass", program.graph_module)
    assert not is_needed("RemoveGetItemPass", program.graph_module)  # softmax is no maximum


def test_everything_is_as_it_was_afterwards():
    transform = XNNPACKPassManager.transform
    with suppress(KeyError), without_idle_work():
        assert XNNPACKPassManager.transform is not transform
        raise KeyError
    assert XNNPACKPassManager.transform is transform
    assert not hasattr(traceback.NodeSource, "__deepcopy__")
