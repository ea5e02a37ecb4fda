"""XNNPACK files in float16: half the weights, one delegate between float32 ends, and norms that hold at any size."""

from __future__ import annotations

import platform
from collections import Counter
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from phone_files import PhoneFile, SharedFiles, convert_model, mobilevit_xxs, runtime_of
from torch import Tensor, nn

from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.parity.metrics import compare

pytest.importorskip("executorch.exir", reason="needs the extra executorch")
from helpers import sampled, tiny_spec
from mobilevit_converters import processor
from mobilevit_converters.executorch import converter
from mobilevit_converters.executorch.file.program import XGraph, read_program, read_xnnpack_graph
from mobilevit_converters.executorch.passes.half_precision import in_half
from mobilevit_converters.executorch.runtimes import float16

from mobilevit_sdk.deployment.matmul_layer_norm import MatmulLayerNorm, RootMeanSquareNorm

MIN_SQNR_DB = 30  # of networks of 16 random channels, where one value's rounding is much of the answer
# The small network of each family: its constants and its other values, by type. Constants in float32 are the biases of
# what computes in float32: of large maps, which most of such a network has, and of the last product.
KINDS = (("fp16", True), ("fp32", True), ("fp16", False), ("fp32", False))
TENSORS = {
    "mobilevit": dict(zip(KINDS, (34, 33, 6, 125), strict=True)),
    "mobilevitv2": dict(zip(KINDS, (31, 28, 12, 125), strict=True)),
    "tiny_vit": dict(zip(KINDS, (41, 23, 68, 100), strict=True)),
    "efficientvit": dict(zip(KINDS, (97, 5, 136, 8), strict=True)),
}
FAMILIES = tuple(TENSORS)
EXTERNAL_INPUT = 1  # XNN_VALUE_FLAG_EXTERNAL_INPUT
GIVEN = {"mobilevit": 0, "mobilevitv2": 1, "tiny_vit": 2, "efficientvit": 5}  # constants that a sum or product reads


class Normed(nn.Module):
    """Tokens of `size` that a norm brings back to 1. Shapes: [1, 3, H, W] -> [1, 5]."""

    def __init__(self, size: float, kind: type[RootMeanSquareNorm]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 32), kind(nn.LayerNorm(32, eps=1e-12)), nn.Linear(32, 5)).float()
        self.network[0].weight.data.mul_(size)
        self.network[0].bias.data.mul_(size)

    def forward(self, image: Tensor) -> Tensor:
        tokens = image.mean((2, 3), keepdim=True).view(1, 1, 3)
        out: Tensor = self.network(tokens).view(1, 5)
        return out


@pytest.fixture(params=sampled(FAMILIES, "mobilevit", "tiny_vit"))
def family(request) -> str:
    return request.param


def xnnpack_graph(path: Path) -> XGraph:
    program = read_program(path)
    (delegate,) = program.method("forward").delegates
    return read_xnnpack_graph(path, program.delegate_data(delegate))


def tensors(file: PhoneFile) -> list[tuple[str, list[int], bool]]:
    """The tensors of a file's delegate: type, shape, and whether it is a constant."""
    values = [each.xvalue_union for each in xnnpack_graph(file.path).xvalues]
    named = [(each["datatype"].removeprefix("xnn_datatype_"), each.get("dims", []), each) for each in values]
    return [(datatype, shape, bool(value.get("constant_buffer_idx"))) for datatype, shape, value in named]


def test_every_family_is_one_delegate_between_float32_ends(family, phone_files: SharedFiles):
    file = phone_files.file("executorch", "fp16", family)
    found = converter.inspect(file.path)
    assert (found.delegates, found.undelegated_ops, found.max_rank) == (1, {}, 4)
    assert {tensor.dtype for tensor in (*found.inputs, *found.outputs)} == {"float32"}
    agreement = file.agreement(converter)
    assert MIN_SQNR_DB <= agreement.sqnr_db.worst < 80
    assert agreement.sqnr_db.median >= 40


def test_weights_are_float16_and_float32_is_kept_where_the_pass_says(family, phone_files: SharedFiles):
    half, single = (phone_files.file("executorch", precision, family) for precision in ("fp16", "fp32"))
    found = tensors(half)
    assert {kind for kind, shape, constant in found if constant and prod(shape) > max(shape)} == {"fp16"}
    assert Counter((kind, constant) for kind, _, constant in found) == TENSORS[family]
    saved = 2 * sum(prod(shape) for kind, shape, constant in found if constant and kind == "fp16")
    assert single.path.stat().st_size - half.path.stat().st_size > 0.85 * saved  # but for what conversions take


def test_the_constants_of_a_delegate_are_those_that_xnnpack_packs(family, phone_files: SharedFiles):
    """Phones free all that are in it once they are packed; what a sum adds would be read from freed memory."""
    file = phone_files.file("executorch", "fp16", family)
    graph = xnnpack_graph(file.path)
    operators = [node.xnode_union for node in graph.xnodes]
    packed = {operator.get(f"{name}_id") for operator in operators for name in ("filter", "bias")}
    values = [value.xvalue_union for value in graph.xvalues]
    assert {value.get("id_out", 0) for value in values if value.get("constant_buffer_idx")} <= packed
    given = [value for value in values if value.get("flags", 0) == EXTERNAL_INPUT]
    assert [value["datatype"] for value in given] == ["xnn_datatype_fp32"] + ["xnn_datatype_fp16"] * GIVEN[family]


@pytest.mark.parametrize("kind", [RootMeanSquareNorm, MatmulLayerNorm])
@pytest.mark.parametrize("size", sampled([2.0**-12, 1.0, 2.0**12], 2.0**-12, 2.0**12))
def test_a_norm_holds_where_squares_are_infinite_or_nothing_in_float16(size, kind, tmp_path):
    spec, graph, path = tiny_spec(), Normed(size, kind), tmp_path / "normed.pte"
    converter.convert(graph, spec, "fp16", path)
    answer = runtime_of(converter).load(path)
    images = [np.full((3, *spec.preprocessing.image_size), level, np.uint8) for level in (40, 200)]
    images += [image * np.array([1, 0, 1], np.uint8)[:, None, None] for image in images]
    expected = [graph(torch.from_numpy(image)[None].float() / 255)[0].detach().numpy() for image in images]
    assert compare(np.stack(expected), np.stack([answer(image) for image in images])).sqnr_db.worst >= 45


def kinds_of(path: Path, operator: str) -> list[str]:
    """The types that the operators of a name answer in, in the order of execution."""
    found = xnnpack_graph(path)
    types = {each.get("id_out", 0): each["datatype"] for each in (value.xvalue_union for value in found.xvalues)}
    answers = [node.xnode_union["output_id"] for node in found.xnodes if node.xnode_union_type == operator]
    return [types[number].removeprefix("xnn_datatype_") for number in answers]


@pytest.mark.parametrize(("channels", "kind"), [(113, "fp16"), (114, "fp32")])
def test_a_convolution_of_windows_adds_up_1024_products_and_more_in_float32(channels, kind, tmp_path):
    torch.manual_seed(0)
    spec, path = tiny_spec(), tmp_path / "sums.pte"
    maps = (nn.Conv2d(3, channels, 1, stride=16), nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, 5, 1))
    graph = nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 5)).eval()
    converter.convert(graph, spec, "fp16", path)
    assert kinds_of(path, "XNNConv2d") == ["fp16", kind, "fp16"]


class Product(nn.Module):
    """Sums over `tokens` pixels, as attention's of values. Shapes: [1, 3, H, W] -> [1, 5]."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens, self.head = tokens, nn.Linear(9, 5)

    def forward(self, image: Tensor) -> Tensor:
        values = image.flatten(2)[:, :, : self.tokens]
        scores: Tensor = self.head(torch.bmm(values.sigmoid(), values.transpose(1, 2)).flatten(1))
        return scores


@pytest.mark.parametrize(("tokens", "kind"), [(1023, "fp16"), (1024, "fp32")])
def test_attention_adds_up_1024_tokens_and_more_in_float32(tokens, kind, tmp_path):
    spec, path = tiny_spec(image_size=40), tmp_path / "product.pte"
    converter.convert(Product(tokens).eval(), spec, "fp16", path)
    assert kinds_of(path, "XNNBatchMatrixMultiply") == [kind]


def test_a_weight_that_float16_does_not_hold_is_refused():
    assert torch.equal(
        in_half(torch.tensor([65504.0, 1e-9, float("inf")]), "w").isinf(), torch.tensor([0, 0, 1]).bool()
    )
    with pytest.raises(ToolchainError, match=r"fp16 ends at 65504, and w reaches 7e\+04; use fp32"):
        in_half(torch.tensor([7e4, 1.0]), "w")


@pytest.mark.parametrize(
    ("machine", "text", "missing"),
    [
        ("x86_64", "flags\t\t: fpu avx2 fma f16c", None),
        ("x86_64", "flags\t\t: fpu avx fma f16c", "avx2"),
        ("aarch64", "Features\t: fp asimd fphp asimdhp", None),
        ("aarch64", "Features\t: fp asimd", "fphp, asimdhp"),
        ("aarch64", "nothing that tells", None),
        ("arm64", "flags : none", None),
    ],
)
def test_a_processor_without_float16_is_named_with_what_it_lacks(machine, text, missing, tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert float16.float16_refusal() is None  # no such file: nothing tells
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{text}\n", "utf-8")
    expected = None if missing is None else f"this processor lacks {missing}, which XNNPACK's float16 kernels need"
    assert float16.float16_refusal() == expected
    assert converter.runtimes[0].refuses == ({} if expected is None else {"fp16": expected})


@pytest.mark.slow
def test_mobilevit_xxs_is_half_the_size_and_near_its_answers(tmp_path):
    half, single = (convert_model(converter, *mobilevit_xxs(64), precision, tmp_path) for precision in ("fp16", "fp32"))
    assert half.path.stat().st_size <= 0.54 * single.path.stat().st_size
    assert half.agreement(converter).sqnr_db.worst >= 40
