"""What is quantized, and what that does to a network computed in floating point."""

from __future__ import annotations

import copy
import pickle
import shutil

import msgspec
import numpy as np
import pytest
import torch
from helpers import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from labeled_images import pictures, write_folder
from torch import nn

from mobilevit_sdk.data.calibration import split_images
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.quantization import QuantizationRecipe, read_recipe
from mobilevit_sdk.parity import THRESHOLDS
from mobilevit_sdk.parity.metrics import compare
from mobilevit_sdk.quantization import simulation
from mobilevit_sdk.quantization.bias_correction import correct_biases, mean_input
from mobilevit_sdk.quantization.sensitivity import CalibrationBatches, block_losses, blocks, frontier, scores, size
from mobilevit_sdk.quantization.simulation import (
    layers,
    observe_ranges,
    quantized_layers,
    round_activations,
    round_weights,
    simulate,
    weight_bits,
)

RECIPE = QuantizationRecipe()


@pytest.fixture(scope="module")
def graph():
    model, spec = tiny_model()
    return deploy(model, "litert-cpu", spec)


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    return [random.random((1, 3, 32, 32), np.float32) for _ in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("images"), pictures(30))


def sqnr(graph, quantized, images):
    return compare(scores(graph, images), scores(quantized, images)).sqnr_db.median


@pytest.mark.parametrize(
    ("pattern", "module", "kept"),
    [
        ("stages.1", "stages.1.0.mlp.fc1", True),
        ("stages.1", "stages.10.0.mlp.fc1", False),
        ("stages.*.mlp", "stages.1.0.mlp.fc1", True),
        ("*.fc1", "stages.1.0.mlp.fc1", True),
        ("stages.1.0.mlp.fc1.weight", "stages.1.0.mlp.fc1", False),
        ("stages.1", "normalization", True),
    ],
)
def test_a_float_module_holds_with_everything_below_it(pattern, module, kept):
    assert QuantizationRecipe(float_modules=(pattern,)).keeps_float(module) is kept


def test_a_recipe_comes_back_from_its_file(tmp_path):
    recipe = QuantizationRecipe(float_modules=("stem",), ranges="entropy", operators=("linear",), group_size=64)
    path = tmp_path / "recipe.json"
    path.write_bytes(msgspec.json.encode(recipe))
    assert read_recipe(path) == recipe


@pytest.mark.parametrize(
    "text", ["", "[]", '{"ranges": "best"}', '{"color": 1}', '{"group_size": 1}', '{"percentile": 20}']
)
def test_a_file_that_is_no_recipe_is_named(tmp_path, text):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(RequestError, match=r"recipe\.json is not a quantization recipe"):
        read_recipe(path)


def test_products_of_attention_are_refused_with_the_operators_that_there_are(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text('{"operators": ["linear", "matmul"]}')
    with pytest.raises(RequestError, match=r"'matmul' .*; operators are convolution, linear, .*, all else stays float"):
        read_recipe(path)


def test_images_that_judge_are_not_those_that_calibrate(folder):
    _, spec = tiny_model()
    calibrating, judging = split_images(folder, spec.preprocessing)
    assert (len(calibrating), len(judging)) == (20, 10)
    assert not set(calibrating.dataset.names) & set(judging.dataset.names)
    assert set(judging.dataset.labels) == set(range(5))


def test_images_travel_as_their_path_and_come_out_the_same(folder):
    _, spec = tiny_model()
    calibrating, _ = split_images(folder, spec.preprocessing)
    calibrating.sha256  # noqa: B018  (nothing decoded travels)
    sent = pickle.dumps(calibrating)
    assert len(sent) < 5000
    there = pickle.loads(sent)
    assert there.sha256 == calibrating.sha256
    first = next(iter(there))
    assert (first.shape, first.dtype) == ((1, 3, 32, 32), np.float32)
    assert 0.5 < first.max() <= 1


def test_decoded_images_are_the_same_and_need_their_source_no_more(tmp_path):
    _, spec = tiny_model()
    source, told = write_folder(tmp_path / "images", pictures(12)), []
    images, _ = split_images(source, spec.preprocessing)
    decoded = images.decode_into(tmp_path / "pixels", told.append)
    assert [(step.done, step.total) for step in told] == [(done, 8) for done in range(9)]
    expected, sha256 = [images.pixels(index) for index in range(8)], images.sha256
    shutil.rmtree(source)
    there = pickle.loads(pickle.dumps(decoded))
    assert there.sha256 == sha256
    np.testing.assert_array_equal([there.pixels(index) for index in range(8)], expected)


def test_too_few_images_to_calibrate_are_an_error(tmp_path):
    _, spec = tiny_model()
    with pytest.raises(RequestError, match="holds 9 images"):
        split_images(write_folder(tmp_path / "few", pictures(9)), spec.preprocessing)


@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 8]), st.sampled_from([(6, 64), (5, 32, 1, 1), (4, 1, 3, 3)]))
def test_rounding_weights_again_changes_nothing_and_none_moves_more_than_half_a_step(seed, bits, shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rounded = round_weights(weight, bits, 32)
    torch.testing.assert_close(round_weights(rounded, bits, 32), rounded, rtol=1e-12, atol=0)
    step = weight.flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
    assert ((rounded - weight).flatten(1).abs() <= step[:, None] * (0.5 + 1e-9)).all()


@pytest.mark.parametrize(
    ("shape", "bits"),
    [
        ((64, 64), 4),
        ((64, 64, 1, 1), 4),
        ((63, 64), 8),  # fewer than 4096 weights
        ((64, 80), 8),  # rows of no whole groups
        ((64, 64, 3, 3), 8),
        ((4096, 1, 1, 1), 8),
    ],
)
def test_four_bits_are_for_large_matrices_in_groups(shape, bits):
    assert weight_bits(torch.zeros(shape), "int4-weight", 32) == bits
    assert weight_bits(torch.zeros(shape), "int8", 32) == 8


@given(st.integers(0, 2**32 - 1), st.floats(-8, 0), st.floats(0.01, 8))
def test_rounded_activations_have_256_levels_and_zero_is_one_of_them(seed, low, high):
    x = torch.randn(5000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 4
    rounded = round_activations(x, low, high)
    assert len(rounded.unique()) <= 256
    assert round_activations(torch.zeros(1, dtype=torch.float64), low, high) == 0
    step = (high - low) / 255
    inside = (x > low + step) & (x < high - step)
    assert ((rounded - x)[inside].abs() <= step / 2 * (1 + 1e-9)).all()


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic", "int8-weight", "int4-weight"])
def test_a_recipe_that_keeps_everything_gives_the_float_network_to_the_last_bit(graph, images, precision):
    recipe = QuantizationRecipe(float_modules=("*",))
    same = simulate(graph, recipe, precision, observe_ranges(graph, recipe, images))
    np.testing.assert_array_equal(scores(same, images), scores(graph, images))


def test_fewer_bits_lose_more(graph, images, monkeypatch):
    monkeypatch.setattr(simulation, "MIN_INT4_WEIGHTS", 1)
    recipe = msgspec.structs.replace(RECIPE, group_size=8)
    ranges = observe_ranges(graph, recipe, images)
    order = ["int8-weight", "int8-dynamic", "int8", "int4-weight"]
    lost = [sqnr(graph, simulate(graph, recipe, precision, ranges), images) for precision in order]
    assert lost == sorted(lost, reverse=True)
    assert lost[2] > 20
    assert lost[3] < lost[0] - 15


def test_simulating_leaves_the_graph_as_it_was(graph, images):
    before = copy.deepcopy(graph.state_dict())
    expected = scores(graph, images)
    simulate(graph, RECIPE, "int8", observe_ranges(graph, RECIPE, images))
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())
    np.testing.assert_array_equal(scores(graph, images), expected)


def test_a_range_that_is_too_small_shows(graph, images):
    ranges = observe_ranges(graph, RECIPE, images)
    path = "stages.0.0.expand.conv"
    low, high = ranges[path].input
    damaged = ranges | {path: type(ranges[path])((low / 8, high / 8), ranges[path].output)}
    assert sqnr(graph, simulate(graph, RECIPE, "int8", damaged), images) < 15


def test_corrected_biases_bring_the_means_of_rounded_layers_back(graph, images):
    corrected = copy.deepcopy(graph)
    correct_biases(corrected, RECIPE, images)
    assert any(layer.bias is None for layer in layers(graph).values())
    means = {}
    for name, network in (("float", graph), ("rounded", graph), ("corrected", corrected)):
        network = network if name == "float" else simulate(network, RECIPE, "int8-weight")
        means[name] = channel_means(network, "stem.conv", images)
    error = (means["rounded"] - means["float"]).abs().max()
    assert error > 1e-4
    assert (means["corrected"] - means["float"]).abs().max() < error / 100


@given(st.data())
def test_the_mean_of_the_outputs_is_the_output_for_the_mean_input(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    groups, depth = data.draw(st.sampled_from([(1, 6), (2, 3), (6, 1)]))
    layer = nn.Conv2d(
        6,
        6 * draw(1, 2),
        (draw(1, 3), draw(1, 3)),
        stride=(draw(1, 2), draw(1, 2)),
        dilation=(draw(1, 2), draw(1, 2)),
        padding=data.draw(st.sampled_from([0, 1, (2, 1)])),
        groups=groups,
    ).double()
    x = torch.randn(2, 6, 8, 11, dtype=torch.double, generator=torch.Generator().manual_seed(draw(0, 99)))
    mean = mean_input(layer, x)
    assert mean.shape == (6, *layer.kernel_size)
    weight = layer.weight.reshape(groups, -1, depth * layer.kernel_size[0] * layer.kernel_size[1])
    found = torch.einsum("gok,gk->go", weight, mean.reshape(groups, -1)).flatten() + layer.bias
    torch.testing.assert_close(found, layer(x).mean((0, 2, 3)), rtol=1e-9, atol=1e-9)


def channel_means(graph, path, images):
    seen = []
    hook = graph.network.get_submodule(path).register_forward_hook(lambda _m, _i, y: seen.append(y.mean((0, 2, 3))))
    scores(graph, images)
    hook.remove()
    return torch.stack(seen).mean(0)


def test_blocks_hold_every_quantized_layer_once(graph):
    cut = blocks(graph, RECIPE)
    inside = [path for paths in cut.values() for path in paths]
    assert sorted(inside) == sorted(quantized_layers(graph, RECIPE))
    assert max(map(len, cut.values())) <= 8
    assert len(cut) > 4


def test_the_block_that_was_spoilt_is_the_most_sensitive_and_the_first_to_stay_float(graph, images):
    spoilt = copy.deepcopy(graph)
    for path in blocks(graph, RECIPE)["stages.0"]:
        layer = spoilt.network.get_submodule(path)
        with torch.no_grad():
            layer.weight[:, 0] *= 40  # one weight takes the levels of its whole channel
    judged = CalibrationBatches(tiny_model()[1], images, {})
    losses = block_losses(spoilt, RECIPE, "int8-weight", None, judged)
    assert losses[0].block == "stages.0"
    points = list(frontier(spoilt, RECIPE, "int8-weight", None, judged, losses, THRESHOLDS["int8-weight"]))
    assert points[0].float_modules == ()
    assert points[1].float_modules == ("stages.0",)
    assert points[1].median_sqnr_db > points[0].median_sqnr_db + 3
    assert [point.size for point in points] == sorted(point.size for point in points)
    assert points[-1].size == 1
    assert points[-1].agreement == 1


def test_the_size_is_that_of_weights_in_their_bits(graph):
    weights = sum(layer.weight.numel() for layer in layers(graph).values())
    every = sum(p.numel() for p in graph.parameters()) + sum(b.numel() for b in graph.buffers())
    assert size(graph, RECIPE, "int8") == pytest.approx(1 - weights * 0.75 / every)
    assert size(graph, QuantizationRecipe(float_modules=("*",)), "int8") == 1


def test_nothing_to_quantize_is_an_error(graph, images):
    none, judged = QuantizationRecipe(float_modules=("*",)), CalibrationBatches(tiny_model()[1], images, {})
    with pytest.raises(RequestError, match="quantizes nothing"):
        block_losses(graph, none, "int8-weight", None, judged)
