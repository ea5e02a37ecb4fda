"""Lowering without idle work: the same file, byte for byte, from fewer passes."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import torch
from helpers import randomize, tiny_model
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, traceback

from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe

pytest.importorskip("executorch.exir", reason="needs the extra executorch")
from executorch.backends.xnnpack._passes import XNNPACKPassManager
from executorch.exir.pass_base import ExportPass
from mobilevit_converters.executorch import convert as executorch_convert
from mobilevit_converters.executorch.passes import lowering
from mobilevit_converters.executorch.passes.fast_lowering import LOOKS_FOR, fast_lowering, is_decomposed, is_needed
from mobilevit_converters.executorch.passes.transpose_elimination import eliminate_transposes
from mobilevit_converters.executorch.quantize.pt2e import quantized

DECOMPOSE = "decompositions"


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
        halves = attended.half().float() + torch.arange(attended.shape[1]).view(1, -1, 1)  # other types than float32
        return self.linear(halves.clone().mean(1)).softmax(-1) + y


def lowered(graph: nn.Module, size: int, precision: str, fast: bool) -> tuple[bytes, list[str]]:
    """The program, and the passes that ran."""
    ran: list[str] = []
    transform, call, decompose = XNNPACKPassManager.transform, ExportPass.__call__, ExportedProgram.run_decompositions

    def spy(self: XNNPACKPassManager) -> object:
        ran.extend(each.__name__ for each in self.passes)
        return transform(self)

    def spy_call(self: ExportPass, graph: GraphModule) -> object:
        ran.append(type(self).__name__)
        return call(self, graph)

    def spy_decompose(self: ExportedProgram, table: object = None) -> ExportedProgram:
        ran.append(DECOMPOSE)
        return decompose(self, table)

    program = torch.export.export(graph.eval(), (torch.zeros(1, 3, size, size),))
    if precision == "int8":
        image = np.random.default_rng(0).random((1, 3, size, size), np.float32)
        program = quantized(program, precision, Quantization(QuantizationRecipe(), [image]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(XNNPACKPassManager, "transform", spy)
        patch.setattr(ExportPass, "__call__", spy_call)
        patch.setattr(ExportedProgram, "run_decompositions", spy_decompose)
        if not fast:
            patch.setattr(lowering, "OPTIMIZATIONS", (eliminate_transposes,))
        return executorch_convert._lower_to_xnnpack({"forward": program}, {}, precision), ran


@pytest.mark.slow
@pytest.mark.parametrize("case", ["mobilevit", "mobilevit in int8", "all operators"])
def test_the_file_is_the_same_byte_for_byte(case):
    size, (family, _, precision) = 32, case.partition(" in ")
    if family == "mobilevit":
        model, spec = tiny_model()
        graph = deploy(model, "xnnpack", spec)
        size = spec.preprocessing.image_size[0]
    else:
        graph = randomize(Everything(), 0).eval()
    expected, all_passes = lowered(graph, size, precision, fast=False)
    file, passes = lowered(graph, size, precision, fast=True)
    assert file == expected
    assert LOOKS_FOR.keys() <= set(all_passes)  # or ExecuTorch has renamed one
    if family == "mobilevit":
        assert len(passes) < len(all_passes) * (0.7 if precision else 0.5)
        assert passes.count(DECOMPOSE) == 1 < all_passes.count(DECOMPOSE)


class Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


def test_a_pass_that_is_not_known_always_runs():
    program = torch.export.export(Plain(), (torch.zeros(2, 3),))
    assert is_needed("SomeNewPass", program.graph_module)
    assert not is_needed("RemoveGetItemPass", program.graph_module)  # softmax is no maximum


class Halves(nn.Module):
    """An operator with several results, each of which a call of `getitem` picks."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.split(2, dim=1)
        return first * second


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x + 1).relu_()


def test_what_writes_in_place_or_is_in_the_table_is_decomposed():
    pure = torch.export.export(Plain(), (torch.zeros(2, 3),)).graph_module
    assert is_decomposed(pure, {})
    assert not is_decomposed(pure, {torch.ops.aten.softmax.int: None})
    halves = torch.export.export(Halves(), (torch.zeros(2, 4),)).graph_module
    assert is_decomposed(halves, {})
    assert not is_decomposed(halves, {torch.ops.aten.split.Tensor: None})
    assert not is_decomposed(torch.export.export(InPlace(), (torch.zeros(2, 3),)).graph_module, {})


def test_everything_is_as_it_was_afterwards():
    def replaced() -> list[object]:
        transform, decompose = XNNPACKPassManager.transform, ExportedProgram.run_decompositions
        return [transform, decompose, ExportPass.__call__, vars(ExportPass).get("__call__")]

    before = replaced()
    with suppress(KeyError), fast_lowering():
        assert not any(now is then for now, then in zip(replaced(), before, strict=True))
        raise KeyError
    assert replaced() == before
    assert not hasattr(traceback.NodeSource, "__deepcopy__")
