"""Core ML files in integers: in them is what the recipe says, and they compute what integers of that kind do."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import tiny_model, without_normalization
from mobilevit_converters.coreml import converter
from torch import nn

from mobilevit_sdk.cli import main
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe
from mobilevit_sdk.quantization.simulation import round_weights

pytest.importorskip("coremltools")

from coremltools.converters.mil.mil import types
from mobilevit_converters.coreml.file.package import load_program, read_package
from mobilevit_converters.coreml.quantize.activations import ACTIVATIONS, INTEGER
from mobilevit_converters.quantization.integers import affine
from mobilevit_converters.quantization.palettes import palettes

SIZE = 36
REFERENCE = next(runtime for runtime in converter.runtimes if runtime.name == "coreml-reference")
IMAGES = [np.random.default_rng(seed).random((1, 3, SIZE, SIZE), np.float32) for seed in range(6)]
FLOAT = QuantizationRecipe(operators=())
DEFAULT = QuantizationRecipe()


@pytest.fixture(scope="module")
def tiny():
    model, spec = tiny_model(image_size=SIZE)
    return model, without_normalization(spec)


def convert(tiny, precision, path, recipe=DEFAULT, images=IMAGES, backend=None, rewrite=lambda g: None):
    model, spec = tiny
    chosen = find_converter("coreml", backend)
    graph = deploy(model, chosen.target, spec)
    rewrite(graph)
    chosen.convert(graph, spec, precision, path, Quantization(recipe, images) if precision[:3] == "int" else None)
    return path


@pytest.fixture(scope="module")
def packages(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("coreml")
    precisions = ("fp16", "int8", "int8-weight", "int4-weight")
    return {precision: convert(tiny, precision, folder / f"{precision}.mlpackage") for precision in precisions}


def scores(path):
    run = REFERENCE.load(path)
    return np.stack([run(np.rint(image[0] * 255).astype(np.uint8)) for image in IMAGES])


def sqnr_db(expected, found):
    return 10 * np.log10((expected**2).sum() / ((expected - found) ** 2).sum())


def function(path):
    return load_program(read_package(path)).functions["main"]


def live(op):
    return [op.inputs[name] for name in ("x", "y") if op.inputs.get(name) is not None]


def scope_free(path):
    return {kind: count for kind, count in converter.inspect(path).operators.items() if "constexpr" not in kind}


@pytest.mark.parametrize("backend", [None, "ane"])
def test_every_operator_in_integers_has_pairs_around_it(tiny, packages, backend, tmp_path):
    path = packages["int8"] if backend is None else convert(tiny, "int8", tmp_path / "a.mlpackage", backend=backend)
    after = []
    for op in function(path).operations:
        if op.op_type not in INTEGER or any(var.op is not None and var.op.op_type == "const" for var in live(op)):
            continue
        assert {var.op.op_type for var in live(op)} == {"dequantize"}
        (result,) = op.outputs
        if [child.op_type for child in result.child_ops] in ([name] for name in ACTIVATIONS):
            (result,) = result.child_ops[0].outputs
        after.append({child.op_type for child in result.child_ops})
    assert len(after) > 20
    *others, classifier = after
    assert all(readers == {"quantize"} for readers in others)
    assert "quantize" not in classifier  # scores less than a step apart would come out equal


def test_softmax_and_attention_read_and_yield_floating_point(packages):
    kinds = {"softmax", "matmul"}
    found = [op for op in function(packages["int8"]).operations if op.op_type in kinds]
    assert {op.op_type for op in found} == kinds
    for op in found:
        assert "dequantize" not in {var.op.op_type for var in live(op)}
        assert types.builtin_to_string(op.outputs[0].dtype) == "fp16"


@pytest.mark.parametrize(
    ("precision", "system", "kinds"),
    [
        ("fp16", "iOS 16", set()),
        ("int8-weight", "iOS 16", {"constexpr_affine_dequantize"}),
        ("int8", "iOS 17", {"constexpr_affine_dequantize", "quantize", "dequantize"}),
        ("int4-weight", "iOS 18", {"constexpr_lut_to_dense", "constexpr_blockwise_shift_scale"}),
    ],
)
def test_file_says_the_oldest_system_that_has_its_operators(packages, precision, system, kinds):
    found = converter.inspect(packages[precision])
    assert found.oldest_system == system
    assert {kind for kind in found.operators if "quantize" in kind or "constexpr" in kind} == kinds


@pytest.mark.parametrize("precision", ["int8", "int8-weight", "int4-weight"])
def test_every_weight_is_stored_in_integers(packages, precision):
    weights = [
        operation.inputs["weight"]
        for operation in function(packages[precision]).operations
        if operation.op_type in ("conv", "linear")
    ]
    assert len(weights) > 20
    for weight in weights:
        (data,) = (weight.op.inputs[name] for name in ("quantized_data", "data", "indices") if name in weight.op.inputs)
        large = int(np.prod(weight.shape[1:])) >= 128
        expected = {"int8"} if precision != "int4-weight" or not large else {"uint4"}
        assert {types.builtin_to_string(data.dtype)} == expected
    if precision == "int4-weight":
        tables = [w.op.lut for w in weights if w.op.op_type == "constexpr_lut_to_dense"]
        assert tables
        assert all(table.shape[0] == w.shape[0] for table in tables for w in weights if w.op.inputs.get("lut") is table)


@torch.no_grad()
def test_int8_weights_answer_as_weights_rounded_in_torch(tiny, packages, tmp_path):
    def rounded(graph):
        for module in graph.network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(round_weights(module.weight, 8, 32))

    expected = scores(convert(tiny, "fp16", tmp_path / "a.mlpackage", rewrite=rounded))
    found, exact = scores(packages["int8-weight"]), scores(packages["fp16"])
    # Weights and scales are float16 before they are divided: one in thirty lies so near the middle that it goes the
    # other way, by a whole step, which leaves a third of the noise.
    assert sqnr_db(expected, found) > sqnr_db(exact, found) + 3


@pytest.mark.parametrize(
    ("precision", "backend", "floor_db"),
    [("int8-weight", None, 30), ("int8", None, 22), ("int8", "ane", 22), ("int4-weight", None, 14)],
)
def test_integers_answer_nearly_as_floating_point(tiny, packages, precision, backend, floor_db, tmp_path):
    path = packages[precision] if backend is None else convert(tiny, precision, tmp_path / "a.mlpackage", backend="ane")
    assert floor_db < sqnr_db(scores(packages["fp16"]), scores(path)) < floor_db + 25


@pytest.mark.parametrize("precision", ["int8", "int8-weight", "int4-weight"])
@pytest.mark.parametrize("recipe", [FLOAT, QuantizationRecipe(float_modules=("*",))], ids=["kinds", "modules"])
def test_a_recipe_that_keeps_all_in_floating_point_changes_no_score(tiny, packages, precision, recipe, tmp_path):
    path = convert(tiny, precision, tmp_path / "a.mlpackage", recipe)
    assert scope_free(path) == scope_free(packages["fp16"])
    np.testing.assert_array_equal(scores(path), scores(packages["fp16"]))


def test_a_module_kept_in_floating_point_has_neither_pairs_nor_integers(tiny, packages, tmp_path):
    path = convert(
        tiny, "int8", tmp_path / "a.mlpackage", QuantizationRecipe(float_modules=("stages.1.*.transformer",))
    )
    linears = [op for op in function(path).operations if op.op_type == "linear" and op.outputs[0].shape[-1] != 5]
    assert len(linears) >= 12
    assert not [op for op in linears if op.inputs["weight"].op.op_type.startswith("constexpr")]
    convolutions = [op for op in function(path).operations if op.op_type == "conv"]
    assert all(op.inputs["x"].op.op_type == "dequantize" for op in convolutions)


def test_kinds_that_the_recipe_leaves_out_have_no_pairs(tiny, packages, tmp_path):
    path = convert(tiny, "int8", tmp_path / "a.mlpackage", QuantizationRecipe(operators=("convolution", "linear")))
    ops = list(function(path).operations)
    silus = [op for op in ops if op.op_type == "silu"]
    assert silus
    assert all(op.inputs["x"].op.op_type == "dequantize" for op in silus)  # a convolution's result, rounded before


def test_ranges_come_from_the_images_by_the_method_of_the_recipe(tiny, tmp_path):
    """One white pixel in images that are nearly black sets the range of the image, and is left out of it."""
    model, spec = tiny
    plain = msgspec.structs.replace(spec.preprocessing, channel_order="rgb", mean=(0.0,) * 3, std=(1.0,) * 3)
    plain = (model, msgspec.structs.replace(spec, preprocessing=plain))
    dark = [image * np.float32(0.1) for image in IMAGES]
    dark[3][0, :, 5, 7] = 1

    def scale_of_image(ranges, images):
        recipe = QuantizationRecipe(ranges=ranges, percentile=99.9, operators=("convolution",))
        path = convert(plain, "int8", tmp_path / f"{ranges}{len(images)}.mlpackage", recipe, images)
        first = next(op for op in function(path).operations if op.op_type == "quantize")
        return float(first.scale.val)

    assert scale_of_image("minmax", dark) == pytest.approx(1 / 255, rel=1e-3)
    assert scale_of_image("percentile", dark) == pytest.approx(0.1 / 255, rel=0.02)
    assert scale_of_image("minmax", dark[:3]) == pytest.approx(0.1 / 255, rel=0.02)


def test_tensors_between_which_values_only_move_share_their_scale(packages):
    ops = [op for op in function(packages["int8"]).operations if op.op_type == "concat"]
    assert ops
    for op in ops:
        pairs = [var.op for var in op.inputs["values"] if var.op.op_type == "dequantize"]
        pairs += [child for child in op.outputs[0].child_ops if child.op_type == "quantize"]
        assert len(pairs) == 3
        assert len({(float(p.scale.val), int(p.zero_point.val)) for p in pairs}) == 1


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 3.0), (0.0, 6.0), (-0.28, 11.3), (-5.0, 0.0), (0.0, 0.0), (0.0, 1e-9)]
)
def test_zero_is_exact_and_the_range_is_covered(low, high):
    scale, zero_point = affine(low, high)
    lowest, highest = ((level - int(zero_point)) * float(scale) for level in (-128, 127))
    assert lowest <= low + float(scale)
    assert high - float(scale) <= highest
    assert highest - lowest <= max(high - low, 255 * 2**-14) * 1.001


def test_a_palette_is_exact_for_sixteen_numbers_and_the_best_for_more():
    generator = torch.Generator().manual_seed(0)
    few = torch.randn(3, 16, generator=generator).half().float()[:, torch.arange(100) % 16]
    tables, indices = palettes(few)
    torch.testing.assert_close(tables.gather(1, indices), few, rtol=0, atol=0)

    rows = torch.randn(2, 19, generator=generator)
    tables, indices = palettes(rows)
    for row, table, index in zip(rows, tables, indices, strict=True):
        ordered = row.sort().values.double()
        best = min(  # every way to cut 19 sorted numbers into 16 runs
            sum(part.var(correction=0) * len(part) for part in torch.tensor_split(ordered, cuts))
            for cuts in itertools.combinations(range(1, 19), 15)
        )
        assert (row - table[index]).square().sum().item() == pytest.approx(float(best), rel=1e-2, abs=1e-5)


def test_palettes_of_long_rows_lose_no_more_than_those_of_coremltools():
    from coremltools.optimize.coreml._quantization_passes import palettize_weights

    rows = torch.randn(4, 300, generator=torch.Generator().manual_seed(1)).pow(3).half()
    tables, indices = palettes(rows.float())
    theirs = palettize_weights.grouped_channelwise_compress(rows.numpy(), "KMEANS", 4, 0, 1)
    found = np.take_along_axis(theirs.lut.reshape(4, 16), np.asarray(theirs.indices).astype(np.int64), 1)
    ours = (rows.float() - tables.gather(1, indices)).square().sum()
    assert ours <= 1.02 * ((rows.float().numpy() - found) ** 2).sum()
    assert tables.shape == (4, 16)


def test_a_large_constant_is_stored_in_8_bits(tmp_path):
    class Biased(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3, 2, 1)
            self.head = nn.Linear(6, 5)
            self.bias = nn.Parameter(torch.randn(1, 6, SIZE // 2, SIZE // 2))

        def forward(self, x):
            return self.head((self.conv(x) + self.bias).relu().mean((2, 3)))

    torch.manual_seed(0)
    _, spec = tiny_model(image_size=SIZE)
    path = tmp_path / "a.mlpackage"
    converter.convert(Biased().eval(), spec, "int8", path, Quantization(QuantizationRecipe(), IMAGES))
    (add,) = (op for op in function(path).operations if op.op_type == "add")
    assert {var.op.op_type for var in live(add)} >= {"constexpr_affine_dequantize"}


def test_a_quantized_package_can_be_tapped(packages):
    taps = REFERENCE.tap(packages["int8"])
    values = taps.values(np.full((3, SIZE, SIZE), 90, np.uint8))
    kinds = {tap.operator for tap in taps.taps}
    assert {"conv", "dequantize", "layer_norm"} <= kinds
    assert "quantize" not in kinds
    assert all(np.isfinite(value).all() for value in values)


def test_fp16_accumulation_of_a_quantized_package_is_near_its_answer(packages):
    half = next(runtime for runtime in converter.runtimes if runtime.name == "coreml-fp16-accumulate").load(
        packages["int8"]
    )
    image = np.rint(IMAGES[0][0] * 255).astype(np.uint8)
    assert 20 < sqnr_db(REFERENCE.load(packages["int8"])(image), half(image)) < 90


def test_same_images_and_recipe_give_the_same_package(tiny, packages, tmp_path):
    again = convert(tiny, "int8", tmp_path / "int8.mlpackage")
    for file in sorted(path for path in packages["int8"].rglob("*") if path.is_file()):
        assert file.read_bytes() == (again / file.relative_to(packages["int8"])).read_bytes()


def test_dynamic_ranges_are_refused_with_what_comes_nearest(tmp_path):
    options = ["--random-weights", "0", "--to", "coreml", "--precision", "int8-dynamic", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, ["convert", "mobilevit_xxs", *options])
    assert done.exit_code == 2
    assert "int8-weight" in done.stderr
