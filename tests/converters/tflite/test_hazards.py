"""Forms that phones' GPUs are reported to refuse or to get wrong: none in our files, and counted in any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from mobilevit_converters.tflite import converter
from mobilevit_converters.tflite.file.hazards import HAZARDS
from mobilevit_converters.tflite.file.schema import parse, serialize
from phone_files import SharedFiles
from quantized_tflite import product_ranks
from tiny_networks import FAMILIES

litert_torch = pytest.importorskip("litert_torch")
import torch  # noqa: E402


class Calls(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


def write(path: Path, function, *shapes: tuple[int, ...]) -> Path:
    """A file as litert-torch writes it, unlike ours in everything that our converter adds."""
    content = litert_torch.convert(Calls(function).eval(), tuple(torch.rand(shape) for shape in shapes)).model_content()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("function", "shapes", "hazards"),
    [
        (torch.bmm, [(4, 3, 5), (4, 5, 6)], {"BATCH_MATMUL of rank 3": 1}),
        (torch.matmul, [(2, 4, 3, 5), (2, 4, 5, 6)], {"BATCH_MATMUL of rank 3": 1}),
        (
            lambda x, y: torch.bmm(torch.bmm(x, y.transpose(1, 2)).softmax(-1), y),
            [(4, 3, 5), (4, 6, 5)],
            {"BATCH_MATMUL of rank 3": 2, "BATCH_MATMUL that transposes an operand": 1},
        ),
        (
            lambda x, y: torch.einsum("bhnd,bhmd->bhnm", x, y),
            [(2, 4, 3, 5), (2, 4, 6, 5)],
            {"BATCH_MATMUL that transposes an operand": 1},
        ),
        (lambda x, y: torch.einsum("bhnd,bhdm->bhnm", x, y), [(2, 4, 3, 5), (2, 4, 5, 6)], {}),
        (lambda x: x.expand(2, 4, 8), [(2, 1, 8)], {"BROADCAST_TO": 1}),
        (lambda x, y: x + y, [(2, 3, 4, 5), (4, 5)], {"operands of different rank": 1}),
        (lambda x, y: x * 2.0 + y, [(2, 3, 4, 5), (5,)], {}),
        (lambda x: (x + 1.0).softmax(-1), [(2, 3, 1)], {"DIV of a tensor by itself": 1}),
    ],
)
def test_each_form_is_counted_in_a_file_of_any_origin(function, shapes, hazards, tmp_path):
    assert converter.inspect(write(tmp_path / "model.tflite", function, *shapes)).hazards == hazards
    assert set(hazards) <= set(HAZARDS)


@pytest.mark.parametrize("family", FAMILIES)
def test_our_files_hold_none_and_all_their_products_have_rank_4(family, phone_files: SharedFiles):
    """Of the integer ones: test_tflite_quantized."""
    path = phone_files.file("tflite", "fp32", family).path
    assert converter.inspect(path).hazards == {}
    assert product_ranks(path) == {4}


def test_operators_without_inputs_or_options_are_no_hazard(tmp_path):
    path = write(tmp_path / "model.tflite", torch.bmm, (4, 3, 5), (4, 5, 6))
    model = parse(path.read_bytes())
    (product,) = model.subgraphs[0].operators
    product.builtinOptions, product.builtinOptionsType = None, 0
    path.write_bytes(serialize(model))
    assert converter.inspect(path).hazards == {"BATCH_MATMUL of rank 3": 1}


def test_an_operand_beyond_the_graph_is_left_to_the_runtime_to_refuse(tmp_path):
    path = write(tmp_path / "model.tflite", torch.bmm, (4, 3, 5), (4, 5, 6))
    model = parse(path.read_bytes())
    (product,) = model.subgraphs[0].operators
    product.inputs[1] = 1 << 20
    path.write_bytes(serialize(model))
    found = converter.inspect(path)
    assert (found.hazards, found.delegates) == ({"BATCH_MATMUL of rank 3": 1}, None)
