"""Integers in .onnx files: what is stored in 8 bits, where values go through 8 bits, and that the answers hold."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from helpers import sampled
from tiny_networks import FAMILIES, ODD, tiny_spec, visible_tables
from torch import nn

from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe
from mobilevit_sdk.models.random_weights import condition_weights, randomize
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.spec import ModelSpec

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx
from mobilevit_converters.onnx import converter
from mobilevit_converters.onnx.quantize.qdq import PRODUCTS, module_of, quantize

WHOLE = QuantizationRecipe(ranges="minmax")  # takes in every value
PRECISIONS = ("int8", "int8-weight")
# 3 dB, twice the noise, below what was measured: random weights amplify it more than trained ones.
FLOORS = {
    "mobilevit": {"int8": 32, "int8-weight": 36.5},
    "mobilevitv2": {"int8": 31, "int8-weight": 39},
    "tiny_vit": {"int8": 15, "int8-weight": 27},
    "efficientvit": {"int8": 27.5, "int8-weight": 30},
    "vit": {"int8": 26.5, "int8-weight": 27},
    "deepvit": {"int8": 26, "int8-weight": 26.5},
    "dearkd": {"int8": 24, "int8-weight": 24},
    "navit": {"int8": 17, "int8-weight": 17},  # the pool keeps what rounding adds to all patches alike
}
CONVOLUTIONS = {
    "vit": 1,
    "deepvit": 4,
    "dearkd": 1,
    "navit": 1,
}  # of patches; of stem, patches, heads; others have more than 8


@dataclass(frozen=True, eq=False)
class Made:
    """A family's network, as converted in float32, and pictures for it: float32 [8, 3, H, W]."""

    graph: nn.Module
    spec: ModelSpec
    model: Any
    images: np.ndarray

    def quantized(self, precision: str, recipe: QuantizationRecipe = WHOLE) -> Any:
        model = copy.deepcopy(self.model)
        quantize(model, precision, Quantization(recipe, [image[None] for image in self.images]))
        return model


@pytest.fixture(scope="module", params=sampled(FAMILIES, "mobilevit", "mobilevitv2"))
def made(request, tmp_path_factory) -> Made:
    spec = tiny_spec(request.param, ODD[request.param])
    generator = torch.Generator().manual_seed(0)
    smooth = nn.functional.interpolate(
        torch.rand(8, 3, 6, 6, generator=generator), spec.preprocessing.image_size, mode="bicubic"
    ).clamp(0, 1)
    network = visible_tables(randomize(build_model(spec), 0)).eval()
    condition_weights(network, smooth)
    graph = deploy(network, converter.target, spec, quantized=True)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    converter.convert(graph, spec, "fp32", path)
    return Made(graph, spec, onnx.load(path), smooth.numpy())


def written_by(model) -> dict[str, Any]:
    return {name: node for node in model.graph.node for name in node.output}


def products_of(model) -> list[Any]:
    """All but the normalization of the image and the means of norms, which every recipe keeps in floating point."""
    products = [node for node in model.graph.node if node.op_type in PRODUCTS and module_of(node) != "normalization"]
    return [node for node in products if ".norm" not in module_of(node)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_onnxruntime_answers_near_the_float_network(made: Made, precision: str, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(made.quantized(precision).SerializeToString())
    answer = converter.runtimes[0].load(path)
    pixels = np.rint(made.images * 255).astype(np.uint8)
    with torch.no_grad():
        expected = np.stack([made.graph(torch.from_numpy(image[None]).float() / 255)[0].numpy() for image in pixels])
    noise = np.stack([answer(image) for image in pixels]) - expected
    assert 10 * np.log10((expected**2).sum() / (noise**2).sum()) > FLOORS[made.spec.family][precision]
    assert noise.any()  # in integers, it is another function


@pytest.mark.parametrize("precision", PRECISIONS)
def test_norms_read_floating_point(made: Made, precision: str):
    model = made.quantized(precision)
    makers = written_by(model)
    norms = [node for node in model.graph.node if ".norm" in module_of(node)]
    means = [node for node in norms if node.op_type in PRODUCTS]
    assert bool(norms) == (made.spec.family != "efficientvit")  # which folds its own away
    assert bool(means) == (made.spec.family in ("mobilevitv2", "navit"))
    for node in means:
        assert not [name for name in node.input if name in makers and makers[name].op_type == "DequantizeLinear"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_weight_is_stored_in_8_bits_and_no_large_float_is_left(made: Made, precision: str):
    model = made.quantized(precision)
    makers, constants = written_by(model), {tensor.name: tensor for tensor in model.graph.initializer}
    products = products_of(model)
    assert len(products) == len(products_of(made.model))
    for node in products:
        stored, scale, zero = (onnx.numpy_helper.to_array(constants[name]) for name in makers[node.input[1]].input)
        assert (stored.dtype, scale.dtype, zero.dtype) == (np.int8, np.float32, np.int8)
        assert np.abs(stored.astype(int)).max() == 127
        axis = next(each.i for each in makers[node.input[1]].attribute if each.name == "axis")
        assert axis == (0 if node.op_type == "Conv" or any(each.i for each in node.attribute) else 1)
        assert scale.size == zero.size == stored.shape[axis]  # one for each output channel
        assert not zero.any()
    kept = {tensor.name for tensor in made.model.graph.initializer} & set(constants)
    assert not kept & {node.input[1] for node in products_of(made.model)}  # nothing of the float weights is left


def test_int8_reads_and_writes_8_bits_where_it_multiplies_and_nowhere_else(made: Made):
    model = made.quantized("int8")
    makers = written_by(model)
    readers = {name: [] for name in makers}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    *products, classifier = products_of(model)
    convolutions = [node for node in products if node.op_type == "Conv"]
    assert len(convolutions) == CONVOLUTIONS.get(made.spec.family, len(convolutions))
    assert made.spec.family in CONVOLUTIONS or len(convolutions) > 8
    for node in products:
        assert makers[node.input[0]].op_type == "DequantizeLinear"
        assert makers[makers[node.input[0]].input[0]].op_type == "QuantizeLinear"
    for node in convolutions:
        (value,) = node.output
        if readers[value] == ["Relu"]:
            (value,) = (each.output[0] for each in model.graph.node if value in each.input)
        assert readers[value] == ["QuantizeLinear"]
    # Answers less than a step apart would come out equal.
    assert classifier.output[0] == model.graph.output[0].name
    assert makers[classifier.input[0]].op_type != "DequantizeLinear"
    for node in model.graph.node:
        if node.op_type == "Softmax":
            assert readers[node.output[0]] != ["QuantizeLinear"]


def test_int8_weight_computes_in_floating_point(made: Made):
    model = made.quantized("int8-weight")
    assert not [node for node in model.graph.node if node.op_type == "QuantizeLinear"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_the_recipe_keeps_float_is_float(made: Made, precision: str):
    first = "blocks.0" if made.spec.family in CONVOLUTIONS else "stages.0"
    recipe = QuantizationRecipe(ranges="minmax", float_modules=(f"{first}*",))
    model = made.quantized(precision, recipe)
    constants = {tensor.name for tensor in model.graph.initializer}
    found = {True: set(), False: set()}
    for node in products_of(model):
        found[module_of(node).startswith(first)].add(node.input[1] in constants)
    assert found == {True: {True}, False: {False}}
