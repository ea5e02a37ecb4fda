"""Integers in .tflite files: where they stand, where they do not, and that the answers hold."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import sampled, without_normalization
from quantized_tflite import WHOLE, Images, Network, answers, dtypes, make, product_ranks, read, sqnr_db
from small_networks import small_specs
from torch import nn

from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe
from mobilevit_sdk.models.random_weights import randomize

pytest.importorskip("litert_torch")
from mobilevit_converters.tflite import convert as conversion
from mobilevit_converters.tflite.file.delegation import xnnpack_delegation
from mobilevit_converters.tflite.file.operators import operators_of
from mobilevit_converters.tflite.inspect import inspect
from mobilevit_converters.tflite.passes.constants import pack_constants
from mobilevit_converters.tflite.quantize.quantize import release_unread
from mobilevit_converters.tflite.quantize.ranges import find_ranges

FAMILIES = ("mobilevit", "mobilevitv2", "tiny_vit", "efficientvit")


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    return {}


def network_of(family: str, networks: dict[str, Network]) -> Network:
    if family not in networks:
        networks[family] = make(small_specs()[family])
    return networks[family]


@pytest.fixture(params=sampled(FAMILIES, "mobilevit", "tiny_vit"))
def network(request: pytest.FixtureRequest, networks: dict[str, Network]) -> Network:
    return network_of(request.param, networks)


@pytest.fixture
def mobilevit(networks: dict[str, Network]) -> Network:
    return network_of("mobilevit", networks)


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic", "int8-weight"])
def test_xnnpack_takes_the_whole_file(network: Network, precision: str, tmp_path: Path):
    path = tmp_path / "model.tflite"
    path.write_bytes(network.quantized(precision))
    assert xnnpack_delegation(path) == (1, {})
    assert inspect(path).hazards == {}
    assert product_ranks(path) == {4}


# 3 dB, twice the noise, below what was measured: random weights amplify it more than trained ones.
FLOORS = {
    "mobilevit": {"int8": 34, "int8-dynamic": 38, "int8-weight": 37.5},
    "mobilevitv2": {"int8": 29, "int8-dynamic": 35, "int8-weight": 36},
    "tiny_vit": {"int8": 15, "int8-dynamic": 25.5, "int8-weight": 28.5},
    "efficientvit": {"int8": 22.5, "int8-dynamic": 27, "int8-weight": 28.5},
}


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic", "int8-weight"])
def test_answers_stay_near_those_in_float(network: Network, precision: str):
    assert sqnr_db(network, network.quantized(precision)) >= FLOORS[network.spec.family][precision]


def test_image_and_scores_stay_float32(network: Network):
    from ai_edge_litert.schema_py_generated import TensorType

    graph = read(network.quantized("int8")).subgraphs[0]
    assert {graph.tensors[i].type for i in (*graph.inputs, *graph.outputs)} == {TensorType.FLOAT32}


def test_int8_computes_products_in_integers_and_norms_and_attention_in_float(network: Network):
    found = dtypes(network, network.quantized("int8"))
    assert found["CONV_2D"] == found["DEPTHWISE_CONV_2D"] == {"INT8"}
    for code in ("SOFTMAX", "BATCH_MATMUL", "RSQRT", "SQUARED_DIFFERENCE"):
        assert found.get(code, {"FLOAT32"}) == {"FLOAT32"}
    head = read(network.quantized("int8")).subgraphs[0].operators[-1]
    assert len(head.inputs) == 3  # the scores come from the classifier itself, not from 256 levels


def test_weights_are_symmetric_by_output_channel_and_their_largest_is_127(mobilevit: Network):
    model = read(mobilevit.quantized("int8"))
    (graph,) = model.subgraphs
    seen = 0
    for operator in operators_of(model, mobilevit.graph):
        if operator.code in ("CONV_2D", "DEPTHWISE_CONV_2D") and operator.module != "normalization":
            tensor = graph.tensors[operator.inputs[1]]
            axis = 3 if operator.code == "DEPTHWISE_CONV_2D" else 0
            weights = np.frombuffer(model.buffers[tensor.buffer].data, np.int8).reshape(tensor.shape)
            largest = np.abs(weights.astype(int)).max(tuple({0, 1, 2, 3} - {axis}))
            assert tensor.quantization.quantizedDimension == axis
            assert not any(tensor.quantization.zeroPoint)
            assert (largest == 127).all()
            seen += 1
    assert seen == 15


def test_int8_files_are_smaller_by_what_their_weights_shrink(mobilevit: Network):
    def constants(content: bytes) -> int:
        return sum(len(buffer.data) for buffer in read(content).buffers if buffer.data is not None)

    assert constants(mobilevit.quantized("int8-weight")) < 0.45 * constants(mobilevit.content)


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic", "int8-weight", "int4-weight"])
def test_a_recipe_that_keeps_everything_float_gives_the_float_model(mobilevit: Network, precision: str):
    content = mobilevit.quantized_by(QuantizationRecipe(float_modules=("*",)), precision)
    np.testing.assert_array_equal(answers(content, mobilevit.images), answers(mobilevit.content, mobilevit.images))


def test_a_module_that_keeps_float_is_the_only_one_that_does(mobilevit: Network):
    from ai_edge_litert.schema_py_generated import TensorType

    recipe = QuantizationRecipe(float_modules=("stages.0.1",))
    model = read(mobilevit.quantized_by(recipe))
    floating = {
        operator.module
        for operator in operators_of(model, mobilevit.graph)
        if operator.code in ("CONV_2D", "DEPTHWISE_CONV_2D")
        and model.subgraphs[0].tensors[operator.inputs[1]].type == TensorType.FLOAT32
    }
    assert floating == {"normalization", *(f"stages.0.1.{part}.conv" for part in ("expand", "depthwise", "project"))}


def test_activations_stay_float_where_the_recipe_leaves_them_out(mobilevit: Network):
    recipe = QuantizationRecipe(operators=("convolution", "linear", "pad"))
    assert dtypes(mobilevit, mobilevit.quantized_by(recipe))["LOGISTIC"] == {"FLOAT32"}


@pytest.mark.parametrize(("precision", "version"), [("int8", 5), ("int8-dynamic", 12), ("int8-weight", 5)])
def test_kernels_too_old_for_a_scale_by_channel_are_told_so(mobilevit: Network, precision: str, version: int):
    """tflite-runtime 2.14 computes such a file, and wrongly, unless it claims the version that it needs."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    codes = read(mobilevit.quantized(precision)).operatorCodes
    assert {code.version for code in codes if code.builtinCode == BuiltinOperator.FULLY_CONNECTED} == {version}


class WithOutlier(Images):
    def __iter__(self) -> Iterator[np.ndarray]:
        *others, last = super().__iter__()
        last = last.copy()
        last[0, 0, 0, 0] = 1.0
        yield from (*others, last)


def test_the_range_method_decides_how_far_8_bits_reach():
    plain = make(without_normalization(small_specs()["mobilevit"]))
    images = WithOutlier(plain.images.size, scale=0.25)

    def input_scale(recipe: QuantizationRecipe) -> float:
        (graph,) = read(plain.quantized_by(recipe, images=images)).subgraphs
        return float(graph.tensors[graph.operators[0].outputs[0]].quantization.scale[0])

    assert input_scale(WHOLE) == pytest.approx(1 / 255)
    assert input_scale(QuantizationRecipe(ranges="percentile", percentile=99.9)) <= 0.26 / 255


def test_tensors_that_hold_the_same_values_share_a_range(mobilevit: Network):
    operators = operators_of(read(mobilevit.content), mobilevit.graph)
    moving = [operator for operator in operators if operator.code in ("RESHAPE", "TRANSPOSE")]
    ranges = find_ranges(mobilevit.content, moving, Quantization(WHOLE, mobilevit.images))
    assert len(moving) > 10
    assert all(ranges[operator.inputs[0]] == ranges[operator.outputs[0]] for operator in moving)


def test_the_bias_of_a_dead_channel_survives(mobilevit: Network):
    """Its weights are nearly zero, so that steps of input times weight are too small for 32 bits to reach the bias."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = read(mobilevit.content)
    operators = operators_of(model, mobilevit.graph)
    operator = next(found for found in operators if (found.code, found.module) == ("CONV_2D", "stem.conv"))
    for tensor, values in zip(operator.inputs[1:], (1e-9, 2.0), strict=True):
        buffer = model.buffers[model.subgraphs[0].tensors[tensor].buffer]
        numbers = np.frombuffer(buffer.data, np.float32).copy()
        numbers.reshape(8, -1)[3] = values
        buffer.data = np.frombuffer(numbers.tobytes(), np.uint8)
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    dead = Network(mobilevit.spec, mobilevit.graph, content, mobilevit.images)
    assert sqnr_db(dead, dead.quantized("int8")) >= 30


@pytest.mark.parametrize(("dtype", "bytes_each", "tolerance"), [("INT8", 1, 0.5 / 127), ("FLOAT16", 2, 2**-11)])
def test_large_constants_are_packed_and_unpacked(dtype: Any, bytes_each: int, tolerance: float, tmp_path: Path):
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.tools import flatbuffer_utils

    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            scale = torch.tensor([0.01, 1.0, 100.0]).view(1, 3, 1, 1)
            self.register_buffer("bias", torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * scale)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + self.bias, x * self.bias

    network = Biased()
    model = read(litert_torch.convert(network.eval(), (torch.rand(1, 3, 40, 40),)).model_content())
    pack_constants(model, dtype, lambda operator: False)
    assert [len(buffer.data) for buffer in model.buffers if buffer.data is not None and len(buffer.data) > 1024] == [
        4800 * bytes_each
    ]
    path = tmp_path / "model.tflite"
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    assert xnnpack_delegation(path) == (1, {})
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.full((1, 3, 40, 40), 0.0, np.float32))
    interpreter.invoke()
    unpacked = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    difference = (torch.from_numpy(unpacked) - network.bias).abs().amax((0, 2, 3))
    assert (difference <= tolerance * network.bias.abs().amax((0, 2, 3)) * 1.0001).all()
    assert (difference > 0).all()


@pytest.mark.parametrize(("precision", "dtype"), [("int8", "INT8"), ("int8-dynamic", "FLOAT16")])
def test_position_biases_shrink_too(
    precision: str, dtype: str, networks: dict[str, Network], monkeypatch: pytest.MonkeyPatch
):
    from ai_edge_litert.schema_py_generated import TensorType

    monkeypatch.setattr(
        "mobilevit_converters.tflite.passes.constants.MIN_PACKED_ELEMENTS", 64
    )  # those of so small a network
    network = network_of("tiny_vit", networks)
    model = read(network.quantized_by(WHOLE, precision))
    (graph,) = model.subgraphs
    operators = operators_of(model, network.graph)
    packed = {o.outputs[0]: graph.tensors[o.inputs[0]] for o in operators if o.code == "DEQUANTIZE"}
    added = [packed[tensor] for o in operators if o.code == "ADD" for tensor in o.inputs if tensor in packed]
    biases = [tensor for tensor in added if model.buffers[tensor.buffer].data is not None]
    assert [tensor.type for tensor in biases] == [getattr(TensorType, dtype)] * 2


def test_the_bias_of_a_layer_is_no_large_constant(pyramid: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """However long: XNNPACK takes no layer whose bias is unpacked first."""
    monkeypatch.setattr("mobilevit_converters.tflite.passes.constants.MIN_PACKED_ELEMENTS", 16)
    path = tmp_path / "model.tflite"
    path.write_bytes(pyramid.quantized_by(WHOLE, "int8-dynamic"))
    assert xnnpack_delegation(path) == (1, {})


class Pyramid(nn.Module):
    """A kernel of each kind: 3x3, 1x1 (large, small, of a width that no group divides), depthwise, and a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, stride=4)
        self.large = nn.Conv2d(64, 128, 1)
        self.depthwise = nn.Conv2d(128, 128, 3, groups=128)
        self.small = nn.Conv2d(128, 16, 1)
        self.odd = nn.Conv2d(16, 256, 1)
        self.head = nn.Linear(256, 32)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = nn.functional.silu(self.large(self.stem(image)))
        out: torch.Tensor = self.head(self.odd(self.small(self.depthwise(x))).mean((2, 3)))
        return out


@pytest.fixture(scope="module")
def pyramid() -> Network:
    spec = small_specs()["mobilevit"]
    graph = randomize(Pyramid(), 0).eval()
    with torch.no_grad():
        graph.large.weight[5] = 0  # a dead channel: a scale of 0, which XNNPACK refuses
    return Network(spec, graph, conversion.float_model([graph], spec), Images(spec.preprocessing.image_size))


def test_int4_weight_holds_large_matrices_in_groups_of_4_bits_and_others_in_8(pyramid: Network, tmp_path: Path):
    from ai_edge_litert.schema_py_generated import TensorType

    model = read(pyramid.quantized("int4-weight"))
    (graph,) = model.subgraphs
    types = {
        operator.module: graph.tensors[operator.inputs[1]].type
        for operator in operators_of(model, pyramid.graph)
        if operator.code in ("CONV_2D", "FULLY_CONNECTED")
    }
    int4, int8 = TensorType.INT4, TensorType.INT8
    assert types == {"stem": int8, "large": int4, "small": int8, "odd": int8, "head": int4}
    path = tmp_path / "model.tflite"
    path.write_bytes(pyramid.quantized("int4-weight"))
    assert xnnpack_delegation(path) == (1, {})
    assert sqnr_db(pyramid, pyramid.quantized("int4-weight")) >= 13


def test_larger_groups_take_less_room(pyramid: Network):
    sizes = [
        len(pyramid.quantized_by(QuantizationRecipe(group_size=size), "int4-weight")) for size in (8, 32, 64, 1024)
    ]
    assert sizes[0] == sizes[1] > sizes[2] > sizes[3]


def test_a_tensor_that_nobody_reads_gives_up_its_values(mobilevit):
    model = read(mobilevit.content)
    (graph,) = model.subgraphs
    index = next(i for i, tensor in enumerate(graph.tensors) if model.buffers[tensor.buffer].data is not None)
    held = graph.tensors[index].buffer
    graph.tensors.append(copy.copy(graph.tensors[index]))
    release_unread(model)
    assert graph.tensors[-1].buffer == 0
    assert graph.tensors[index].buffer == held
