"""Core AI files in integers: in them is what the recipe says, and Apple's runtime computes what torch does with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import tiny_model, without_normalization
from mobilevit_converters.coreai import converter
from mobilevit_converters.exported_graphs import constant
from torch import nn

from mobilevit_sdk.deployment import InHalf, deploy, exported
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe

pytest.importorskip("coreai_torch")

from mobilevit_converters.coreai.quantize.activations import ACTIVATIONS, INTEGER, MOVES
from mobilevit_converters.coreai.quantize.quantize import quantized
from mobilevit_converters.coreai.quantize.weights import WEIGHTED

SIZE = 36
IMAGES = [np.random.default_rng(seed).random((1, 3, SIZE, SIZE), np.float32) for seed in range(3)]
DEFAULT = QuantizationRecipe()
aten = torch.ops.aten


@pytest.fixture(scope="module")
def tiny():
    model, spec = tiny_model(image_size=SIZE)
    return model, without_normalization(spec)


def module_of(tiny, precision, recipe=DEFAULT, backend=None, images=IMAGES):
    """What is converted: the exported graph, edited."""
    model, spec = tiny
    graph = deploy(model, find_converter("coreai", backend).target, spec)
    return quantized(exported(graph, (SIZE, SIZE)), precision, Quantization(recipe, images))


@pytest.fixture(scope="module")
def int8(tiny):
    return module_of(tiny, "int8")


def name(node) -> str:
    return str(node.target).removeprefix("coreai.").removesuffix(".default")


def source(node):
    """What a weight is before it is given more axes."""
    return source(node.args[0]) if node.target == aten.unsqueeze.default else node


def values_of(node):
    found = map(source, node.all_input_nodes)
    return [each for each in found if each.op != "get_attr" and "shift_scale" not in name(each)]


@pytest.mark.parametrize("backend", [None, "ane"])
def test_every_operator_in_integers_has_pairs_around_it(tiny, int8, backend):
    module = int8 if backend is None else module_of(tiny, "int8", backend=backend)
    after = []
    for node in module.graph.nodes:
        if node.target not in INTEGER or (
            node.target == aten.add.Tensor and not set(node.args) <= set(values_of(node))
        ):
            continue  # a norm adds a number, an attention its biases
        assert {name(value) for value in values_of(node)} == {"dequantize"}
        result = node
        if [user.target for user in node.users] in ([each] for each in ACTIVATIONS):
            (result,) = node.users
        after.append({name(user) for user in result.users})
    assert len(after) > 20
    *others, classifier = after
    assert all(readers == {"quantize"} for readers in others)
    assert "quantize" not in classifier  # scores less than a step apart would come out equal


def test_softmax_and_attention_read_and_yield_floating_point(int8):
    found = [node for node in int8.graph.nodes if node.target in (aten.softmax.int, aten.bmm.default)]
    assert len(found) > 4
    for node in found:
        assert "dequantize" not in {name(value) for value in values_of(node)}


def test_values_that_only_move_keep_their_integers(int8):
    """A concatenation of integers with another scale each would round them again."""
    moved = 0
    for node in int8.graph.nodes:
        readers = [user for user in node.users if name(user) == "quantize"]
        sources = [value for value in values_of(node) if name(value) == "dequantize"]
        if node.target in MOVES and readers and sources:
            before = {constant(value.args[1]).item() for value in sources}
            after = {constant(user.args[1]).item() for user in readers}
            assert before == after
            moved += 1
    assert moved


@pytest.mark.parametrize("precision", ["int8", "int8-weight", "int4-weight"])
def test_every_weight_is_stored_in_integers(tiny, precision):
    weights = [node.args[1] for node in module_of(tiny, precision).graph.nodes if node.target in WEIGHTED]
    assert len(weights) > 20
    kinds = set()
    for weight in weights:
        stored, scale = (constant(each) for each in weight.args[:2])
        large = stored[0].numel() >= 128
        kinds.add(name(weight))
        assert name(weight) == (
            "lut_to_dense" if precision == "int4-weight" and large else "constexpr_blockwise_shift_scale"
        )
        assert scale.shape[0] == stored.shape[0]  # each output channel has its own
        if name(weight) == "lut_to_dense":
            assert (stored.dtype, int(stored.max()), scale.shape[-2:]) == (torch.uint8, 15, (16, 1))
        else:
            assert (stored.dtype, int(stored.abs().max())) == (torch.int8, 127)
    assert len(kinds) == (2 if precision == "int4-weight" else 1)


def test_nothing_of_the_float_weights_is_left(tiny):
    module = module_of(tiny, "int8-weight")
    floats = [values for values in module.state_dict().values() if values.is_floating_point()]
    assert all(values.numel() <= 256 for values in floats)
    assert not list(module.parameters()) or all(values.dim() == 1 for values in module.parameters())


def test_int8_weights_are_the_nearest_of_255_steps_by_channel(tiny):
    model, spec = tiny
    graph = deploy(model, "coreai", spec)
    module, image = module_of(tiny, "int8-weight"), torch.from_numpy(IMAGES[0])
    with torch.no_grad():
        exact = graph(image)
        for layer in graph.network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                half = layer.weight.half().float()  # the file rounds weights of float16, by scales of float16
                steps = (half.flatten(1).abs().amax(1) / 127).half().float().view(-1, *[1] * (half.dim() - 1))
                layer.weight.copy_((half / steps).round() * steps)
        expected, (found,) = graph(image), module(image)
    assert (found - expected).norm() < 0.02 * (exact - expected).norm()


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [
        (QuantizationRecipe(operators=("linear",)), lambda node: node.target == aten.conv2d.default),
        (QuantizationRecipe(float_modules=("stages.1.*",)), lambda node: "stages.1." in stack(node)),
    ],
)
@pytest.mark.parametrize("precision", ["int8", "int4-weight"])
def test_what_the_recipe_keeps_float_is_float(tiny, recipe, kept, precision):
    found = {True: set(), False: set()}
    for node in module_of(tiny, precision, recipe).graph.nodes:
        if node.target in WEIGHTED:
            found[bool(kept(node))].add(node.args[1].op)
    assert found == {True: {"get_attr"}, False: {"call_function"}}


def stack(node) -> str:
    return " ".join(str(path) for path, _ in node.meta.get("nn_module_stack", {}).values())


def test_images_that_are_not_finite_are_refused(tiny, tmp_path):
    model, spec = tiny
    images = [np.full((1, 3, SIZE, SIZE), np.nan, np.float32)]
    path = tmp_path / "model.aimodel"
    with pytest.raises(ToolchainError, match="values are not finite"):
        converter.convert(deploy(model, "coreai", spec), spec, "int8", path, Quantization(DEFAULT, images))
    assert not path.exists()


@pytest.mark.parametrize("precision", ["int8", pytest.param("int4-weight", marks=pytest.mark.slow)])
def test_apples_runtime_computes_what_torch_does(tiny, precision, tmp_path):
    model, spec = tiny
    path = tmp_path / "model.aimodel"
    converter.convert(deploy(model, "coreai", spec), spec, precision, path, Quantization(DEFAULT, IMAGES))
    found = converter.inspect(path).operators
    assert found["lut_to_dense" if precision == "int4-weight" else "quantize"] > 0
    half = InHalf(module_of(tiny, precision))
    answer = converter.runtimes[0].load(path)
    pixels = [np.rint(image[0] * 255).astype(np.uint8) for image in IMAGES]
    with torch.no_grad():
        expected = np.stack([half(torch.from_numpy(image[None]).float() / 255)[0].numpy() for image in pixels])
    difference = expected - np.stack([answer(image) for image in pixels])
    assert 10 * np.log10((expected**2).sum() / (difference**2).sum()) > (20 if precision == "int8" else 45)


def test_a_precision_that_core_ai_has_not_names_the_nearest():
    assert "int8-weight" in converter.nearest_precision["int8-dynamic"]
