"""Quantized .pte files: the integers that were asked for, in one delegate, with the ranges that the recipe says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from helpers import randomize, tiny_model, without_normalization
from phone_files import PhoneFile
from small_networks import small_specs
from torch import Tensor, nn

from mobilevit_sdk.artifacts.reference import reference_of
from mobilevit_sdk.conversion.pipeline import convert
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.deployment import PhoneGraph, deploy, exported
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe
from mobilevit_sdk.models.registry import build_model

pytest.importorskip("executorch.exir", reason="needs the extra executorch")

from mobilevit_converters.executorch import convert as executorch_convert
from mobilevit_converters.executorch import converter
from mobilevit_converters.executorch.file.program import read_program
from mobilevit_converters.executorch.passes import lowering
from mobilevit_converters.executorch.passes.graph_rewrites import write_silu_as_product
from mobilevit_converters.executorch.passes.transpose_elimination import eliminate_transposes
from mobilevit_converters.executorch.quantize.int8_regions import integer_nodes
from mobilevit_converters.executorch.quantize.pt2e import quantized
from mobilevit_converters.executorch.runtimes.taps import _read

PRECISIONS = ("int8", "int8-dynamic", "int4-weight")


@dataclass(frozen=True)
class Images:
    """Smooth images, the same at each reading; one pixel of the first may be planted."""

    size: int
    count: int = 6
    planted: float | None = None

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[np.ndarray]:
        numbers = np.random.default_rng(0)
        for index in range(self.count):
            coarse = torch.from_numpy(numbers.random((1, 3, 6, 6), dtype=np.float32))
            image = nn.functional.interpolate(coarse, size=(self.size, self.size), mode="bilinear").numpy()
            if index == 0 and self.planted is not None:
                image[..., self.size // 2, self.size // 2] = self.planted
            yield image


def quantization(size: int, **recipe: Any) -> Quantization:
    return Quantization(QuantizationRecipe(**recipe), Images(size))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PhoneFile]:
    """The tiny network in float and in each precision with integers."""
    model, spec = tiny_model(image_size=20)  # the attention stage sees 5x5, no multiple of the patch, and resizes
    spec = without_normalization(spec)
    graph = deploy(model, converter.target, spec)
    reference = reference_of(model, spec.preprocessing, builtin_cases(spec.preprocessing))
    made = {}
    for precision in ("fp32", *PRECISIONS):
        path = tmp_path_factory.mktemp("executorch") / f"{precision}.pte"
        converter.convert(graph, spec, precision, path, None if precision == "fp32" else quantization(20))
        made[precision] = PhoneFile(path, graph, spec, reference)
    return made


def delegate(file: PhoneFile) -> dict[str, Any]:
    """The graph within a file's only delegate."""
    program = read_program(file.path)
    forward = program.method("forward")
    assert forward is not None
    (part,) = forward.delegates
    return _read(program.delegate_data(part))[0]


def types(graph: dict[str, Any], kind: str, role: str) -> list[str]:
    """Of the values that the operators of a kind read or write as `role`, in order."""
    tensors = [value["xvalue_union"].get("tensor_value", value["xvalue_union"]) for value in graph["xvalues"]]
    datatypes = {tensor["id_out"]: tensor["datatype"].removeprefix("xnn_datatype_") for tensor in tensors}
    nodes = [node["xnode_union"] for node in graph["xnodes"] if node["xnode_union_type"] == kind]
    return [datatypes[node[role]] for node in nodes]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_delegate_takes_the_whole_graph(files, precision):
    found = converter.inspect(files[precision].path)
    assert (found.delegates, found.undelegated_ops, found.max_rank) == (1, {}, 4)


def answers(file: PhoneFile, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The file's answer and the graph's in PyTorch for each image."""
    run = converter.runtimes[0].load(file.path)
    pixels = [(image[0] * 255).round().astype(np.uint8) for image in Images(size)]
    with torch.no_grad():
        return [(run(each), file.graph(torch.from_numpy(each[None]) / 255).numpy().ravel()) for each in pixels]


def sqnr_db(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Of the worst image."""
    return min(float(10 * np.log10((right**2).sum() / ((right - found) ** 2).sum())) for found, right in pairs)


@pytest.mark.parametrize(("precision", "floor"), [("int8", 20), ("int8-dynamic", 26), ("int4-weight", 14)])
def test_answers_stay_near_those_of_pytorch(files, precision, floor):
    assert sqnr_db(answers(files[precision], 20)) >= floor


def test_int8_products_read_and_write_int8_except_in_norms_and_for_the_caller(files):
    graph = delegate(files["int8"])
    for kind in ("XNNConv2d", "XNNDepthwiseConv2d"):
        assert set(types(graph, kind, "filter_id")) == {"qcint8"}
        assert set(types(graph, kind, "input1_id")) == set(types(graph, kind, "output_id")) == {"qint8"}
    roles = [types(graph, "XNNFullyConnected", role) for role in ("input1_id", "filter_id", "output_id")]
    pairs = list(zip(*roles, strict=True))
    assert set(pairs) == {("qint8", "qcint8", "qint8"), ("fp32", "fp32", "fp32"), ("qdint8", "qcint8", "fp32")}
    assert pairs.count(("fp32", "fp32", "fp32")) == 5  # one in each norm
    assert pairs[-1] == ("qdint8", "qcint8", "fp32")
    for kind in ("XNNBatchMatrixMultiply", "XNNSoftmax", "XNNReciprocalSquareRoot"):
        assert set(types(graph, kind, "output_id")) == {"fp32"}
    assert set(types(graph, "XNNSigmoid", "output_id")) == {"qint8"}


def test_int8_dynamic_quantizes_what_products_read_as_they_run(files):
    graph = delegate(files["int8-dynamic"])
    assert set(types(graph, "XNNConv2d", "input1_id")) == {"qdint8"}
    assert set(types(graph, "XNNConv2d", "output_id")) == {"fp32"}
    assert set(types(graph, "XNNDepthwiseConv2d", "filter_id")) == {"fp32"}
    assert types(graph, "XNNFullyConnected", "filter_id").count("qcint8") == 13


def test_int4_weights_are_four_bits_wide_in_linears(files):
    graph = delegate(files["int4-weight"])
    assert set(types(graph, "XNNConv2d", "filter_id")) == {"qcint8"}
    assert types(graph, "XNNFullyConnected", "filter_id").count("qcint4") == 13  # no row has 32 weights
    assert files["int4-weight"].path.stat().st_size < files["int8-dynamic"].path.stat().st_size


class Wide(nn.Module):
    """Linears whose rows are two groups of 32 weights, and 33 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 8)
        self.first = nn.Linear(64, 33)
        self.second = nn.Linear(33, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(self.stem(x).flatten(1))))


def lowered(network: nn.Module, size: int, precision: str, tmp_path: Any) -> PhoneFile:
    _, spec = tiny_model(image_size=size)
    graph = PhoneGraph((size, size), nn.Identity(), network).eval().requires_grad_(False)
    path = tmp_path / f"{precision}.pte"
    converter.convert(graph, spec, precision, path, quantization(size))
    return PhoneFile(path, graph, spec, None)  # type: ignore[arg-type]


def test_weights_share_a_scale_in_groups_of_32_where_that_divides_a_row(tmp_path):
    network = randomize(Wide(), 0)
    graph = delegate(lowered(network, 8, "int4-weight", tmp_path))
    assert types(graph, "XNNFullyConnected", "filter_id") == ["qbint4", "qcint4"]


def test_a_recipe_that_keeps_everything_float_gives_the_float_answers(files, tmp_path):
    plain = files["fp32"]
    path = tmp_path / "kept.pte"
    converter.convert(plain.graph, plain.spec, "int8", path, quantization(20, float_modules=("*",)))
    answer, expected = converter.runtimes[0].load(path), converter.runtimes[0].load(plain.path)
    for case in plain.reference.cases[:3]:
        np.testing.assert_array_equal(answer(case.as_passed()), expected(case.as_passed()))


def test_a_module_that_is_kept_float_stays_so(files, tmp_path):
    plain = files["fp32"]
    path = tmp_path / "kept.pte"
    converter.convert(plain.graph, plain.spec, "int8", path, quantization(20, float_modules=("stages.1.1",)))
    graph = delegate(dataclasses.replace(plain, path=path))
    assert types(graph, "XNNFullyConnected", "filter_id").count("qcint8") == 1  # of 13: the classifier
    assert "qcint8" in types(graph, "XNNConv2d", "filter_id")


def scales(network: nn.Module, size: int, images: Images, **recipe: Any) -> list[float]:
    """Of every value that `network` quantizes, without lowering it."""
    traced = torch.export.export(network.eval().requires_grad_(False), (torch.zeros(1, 3, size, size),))
    program = quantized(traced, "int8", Quantization(QuantizationRecipe(**recipe), images))  # type: ignore[arg-type]
    quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
    return [node.args[1] for node in program.graph.find_nodes(op="call_function", target=quantize)]


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.second(self.first(x))).mean((2, 3), True)


def test_ranges_are_those_of_the_recipe():
    network = randomize(Convolutions(), 0)
    planted = Images(32, planted=100.0)
    everything = scales(network, 32, planted, ranges="minmax")
    share = scales(network, 32, planted, ranges="percentile", percentile=99.0)
    assert everything[0] == share[0] == pytest.approx(1 / 255)  # pixels are what they are
    assert everything[1] > 20 * share[1]
    assert share[1] == pytest.approx(scales(network, 32, Images(32), ranges="percentile", percentile=99.0)[1], rel=0.2)


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolutions, self.linears = Convolutions(), Wide()

    def forward(self, x: Tensor) -> Tensor:
        return self.linears(x) + nn.functional.pad(self.convolutions(x).flatten(1), (0, 1))


class Turned(nn.Module):
    """A convolution of what linears left with the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.map = nn.Linear(3, 4), nn.Conv2d(4, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.tokens(x.permute(0, 2, 3, 1).reshape(1, 64, 3))
        return self.map(tokens.reshape(1, 8, 8, 4).permute(0, 3, 1, 2)).mean((2, 3), True).flatten(1)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", [Both, Turned])
def test_the_file_computes_what_its_integers_say(network, precision, tmp_path):
    file = lowered(randomize(network(), 0), 8, precision, tmp_path)
    says = quantized(exported(file.graph, (8, 8)), precision, quantization(8)).module()
    in_float = sqnr_db(answers(file, 8))
    in_integers = sqnr_db(answers(dataclasses.replace(file, graph=says), 8))
    assert in_integers > 35
    assert in_integers > in_float + 5


class LargeConstant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Buffer(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x.softmax(-1) + self.bias).mean((2, 3), True).flatten(1))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_large_constants_are_stored_in_int8(precision, tmp_path):
    file = lowered(LargeConstant(), 64, precision, tmp_path)
    assert file.path.stat().st_size < 2 * 3 * 64 * 64
    assert converter.inspect(file.path).undelegated_ops == {}


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_file_is_the_same_byte_for_byte_without_idle_work(precision, monkeypatch):
    graph = PhoneGraph((8, 8), nn.Identity(), randomize(Both(), 0)).eval().requires_grad_(False)
    program = quantized(exported(graph, (8, 8)), precision, quantization(8))
    fast = executorch_convert._lower_to_xnnpack({"forward": program}, {}, precision)
    monkeypatch.setattr(lowering, "OPTIMIZATIONS", (eliminate_transposes,))
    assert executorch_convert._lower_to_xnnpack({"forward": program}, {}, precision) == fast


def test_values_cross_between_int8_and_float_at_norms_and_attention_only(files):
    operators = converter.inspect(files["int8"].path).operators
    # Into int8: the image, 5 norms, 2 attentions, the folded-in map. Out of it: as the graph in the docstring says.
    assert operators["XNNConvert"] <= 27


def regions(network: nn.Module, **recipe: Any) -> dict[str, bool]:
    module = torch.export.export(network.eval(), (torch.zeros(1, 4, 4),)).module(check_guards=False)
    write_silu_as_product(module)
    integers = integer_nodes(module, QuantizationRecipe(**recipe))
    return {node.name: node in integers for node in module.graph.nodes if node.op == "call_function"}


class Residual(nn.Module):
    def __init__(self, *, then_linear: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.then_linear = then_linear

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.silu(self.first(x))
        y = y + self.second(y)
        return self.third(y) if self.then_linear else y.softmax(-1)


def test_a_sum_is_int8_where_a_product_reads_it_and_float_where_none_does():
    assert regions(Residual(then_linear=True))["add"]
    assert not regions(Residual(then_linear=False))["add"]


def test_operators_that_the_recipe_leaves_out_stay_float():
    found = regions(Residual(then_linear=True), operators=("linear",))
    assert found["linear"]
    assert not {found["sigmoid_default"], found["mul_tensor"], found["add"]} & {True}


@pytest.mark.parametrize(
    ("backend", "precision", "nearest"), [(None, "int8-weight", "int8-dynamic"), ("coreml", "int8", "fp16")]
)
def test_what_a_backend_cannot_express_names_what_comes_nearest(backend, precision, nearest, tmp_path):
    from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
    from mobilevit_sdk.checkpoints.load import load_checkpoint

    model, spec = tiny_model()
    save_checkpoint(model, spec, tmp_path / "tiny.safetensors")
    with pytest.raises(RequestError, match=f"{precision} comes nearest in {nearest}"):
        convert(
            load_checkpoint(tmp_path / "tiny.safetensors"),
            out=tmp_path,
            formats=["executorch"],
            precisions=[precision],
            backend=backend,
        )


@pytest.mark.parametrize("precision", ["int8-dynamic", "int4-weight"])
def test_tiny_vit_is_one_delegate_though_its_linears_read_what_convolutions_wrote(precision, tmp_path):
    spec = small_specs()["tiny_vit"]
    (size, _) = spec.preprocessing.image_size
    graph = deploy(randomize(build_model(spec), 0).eval(), "xnnpack", spec)
    converter.convert(graph, spec, precision, tmp_path / "a.pte", quantization(size))
    found = converter.inspect(tmp_path / "a.pte")
    assert (found.delegates, found.undelegated_ops) == (1, {})
