"""Integers in a residual network: a ReLU after a sum, and a maximum over positions, in one scale as XNNPACK wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mobilevit_sdk.deployment import exported
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe

pytest.importorskip("executorch.exir", reason="needs the extra executorch")

from mobilevit_converters.executorch.convert import _lower_to_xnnpack
from mobilevit_converters.executorch.file.program import read_program
from mobilevit_converters.executorch.quantize.pt2e import quantized
from mobilevit_converters.executorch.runtimes.taps import _read

SIZE = 16


class Residual(nn.Module):
    """What ResNet's phone graph is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(3, 2)
        self.inside = nn.Conv2d(8, 8, 3, padding=1)
        self.end = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(nn.functional.pad(self.stem(x).relu(), (1, 1, 1, 1)))
        x = (x + self.inside(x)).relu()
        return self.head(self.end(x).mean((2, 3), keepdim=True).flatten(1))


def scales_of(graph: dict[str, Any], kind: str) -> int:
    """How many scales the inputs and outputs of the operators of a kind have."""
    values = [each["xvalue_union"] for each in graph["xvalues"] if "quant_params" in each["xvalue_union"]]
    quantized_values = {each["tensor_value"]["id_out"]: str(each["quant_params"]) for each in values}
    nodes = [each["xnode_union"] for each in graph["xnodes"] if each["xnode_union_type"] == kind]
    assert nodes
    return len({quantized_values[node[role]] for node in nodes for role in ("input_id", "output_id")})


def test_a_residual_network_in_integers_loads_whole_and_answers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Residual().eval()
    images = [np.random.default_rng(index).random((1, 3, SIZE, SIZE), np.float32) for index in range(8)]
    traced = quantized(
        exported(network, (SIZE, SIZE)),
        "int8",
        Quantization(QuantizationRecipe(percentile=99.0), images),  # type: ignore[arg-type]
    )
    path = tmp_path / "residual.pte"
    path.write_bytes(_lower_to_xnnpack({"forward": traced}, {}, "int8"))
    program = read_program(path)
    forward = program.method("forward")
    assert forward is not None
    (delegate,) = forward.delegates
    assert scales_of(_read(program.delegate_data(delegate))[0], "XNNMaxPooling2d") == 1
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    assert method is not None
    noise = signal = 0.0
    for image in images:
        (found,) = method.execute([torch.from_numpy(image)])
        expected = network(torch.from_numpy(image)).detach()
        noise, signal = noise + float((found - expected).square().sum()), signal + float(expected.var())
    assert 10 * np.log10(signal / noise) > 10
