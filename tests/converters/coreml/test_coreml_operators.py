"""Each operator of coreml-reference against its documented meaning, stated in numpy, on a program read from a file."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import torch

from mobilevit_sdk.errors import ToolchainError

ct = pytest.importorskip("coremltools")

from coreml_operator_cases import CASES, MAP, W3  # noqa: E402
from coremltools.converters.mil.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import types  # noqa: E402
from mobilevit_converters.coreml.file.package import operations, read_package  # noqa: E402
from mobilevit_converters.coreml.runtimes.reference.operators import OPERATORS  # noqa: E402
from mobilevit_converters.coreml.runtimes.reference.operators.compressed import COMPRESSED  # noqa: E402
from mobilevit_converters.coreml.runtimes.reference.operators.quantization import QUANTIZATION  # noqa: E402
from mobilevit_converters.coreml.runtimes.reference.program import ReferenceProgram  # noqa: E402
from mobilevit_converters.coreml.toolchain import quiet  # noqa: E402
from operator_meanings import random  # noqa: E402


def write(path, build, x, dtype=types.fp32):
    """A package whose program is `build(x)` for an input of the given type, not optimized in any way."""

    @mb.program(input_specs=[mb.TensorSpec(x.shape, dtype)], opset_version=ct.target.iOS16)
    def program(x):
        return build(x)

    with quiet():
        ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
            package_dir=str(path),
        )
    return read_package(path)


def evaluate(package, x):
    program = ReferenceProgram(package)
    (name,) = program.inputs
    outputs = program({name: torch.from_numpy(np.asarray(x))})
    return [outputs[name].numpy() for name in program.output_names]


@pytest.mark.parametrize(
    ("kind", "x", "build", "meaning"), CASES, ids=[f"{kind}-{i}" for i, (kind, *_) in enumerate(CASES)]
)
def test_operator_means_what_its_documentation_says(kind, x, build, meaning, tmp_path):
    package = write(tmp_path / "one.mlpackage", build, x)
    assert kind in {operation.type for operation in operations(package.block)}
    (found,) = evaluate(package, x)
    with np.errstate(all="ignore"):
        expected = np.asarray(meaning(x))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=3e-5, atol=3e-6)


@pytest.mark.skipif(platform.system() != "Darwin", reason="Core ML itself runs on macOS only")
def test_core_ml_itself_gives_every_operator_that_meaning(tmp_path):
    apart = []
    for i, (kind, x, build, _) in enumerate(CASES):
        package = write(tmp_path / f"{i}.mlpackage", build, x)
        (name,) = ReferenceProgram(package).inputs
        model = ct.models.MLModel(str(package.path), compute_units=ct.ComputeUnit.CPU_ONLY)
        (expected,) = model.predict({name: np.asarray(x)}).values()
        (found,) = evaluate(package, x)
        if not np.allclose(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True):
            apart.append(f"{kind}-{i}: {np.abs(found - expected).max()}")
    assert apart == []


def test_no_operator_is_without_a_case():
    elsewhere = {"classify", *COMPRESSED, *QUANTIZATION}  # the test of the first is that of the whole classifier
    assert set(OPERATORS) == {kind for kind, *_ in CASES} | elsewhere


@pytest.mark.parametrize(
    ("what", "build"),
    [
        ("pad_type same", lambda x: mb.conv(x=x, weight=W3, pad_type="same")),
        ("ceil_mode", lambda x: mb.max_pool(x=x, kernel_sizes=[2, 2], pad_type="valid", ceil_mode=True)),
        ("ceil_mode", lambda x: mb.avg_pool(x=x, kernel_sizes=[2, 2], pad_type="valid", ceil_mode=True)),
        ("sampling mode DEFAULT", lambda x: mb.resize_bilinear(x=x, target_size_height=3, target_size_width=3)),
        ("half_pixel_centers", lambda x: mb.upsample_bilinear(x=x, align_corners=False, half_pixel_centers=False)),
        (
            "fractional scale",
            lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=1.5, scale_factor_width=1.0),
        ),
        ("batch_dims", lambda x: mb.gather(x=x, indices=np.zeros((2, 3), np.int32), axis=1, batch_dims=1)),
        ("stride", lambda x: mb.slice_by_index(x=x, begin=[1] * 4, end=[0] * 4, stride=[-1] * 4)),
    ],
)
def test_a_variant_that_is_not_covered_is_refused_by_name(what, build, tmp_path):
    package = write(tmp_path / "one.mlpackage", build, MAP)
    kind = next(operation.type for operation in operations(package.block) if operation.type != "const")
    with pytest.raises(ToolchainError, match=f"cannot evaluate {kind} .*{what}"):
        evaluate(package, MAP)


def test_float16_values_are_rounded_after_every_operator(tmp_path):
    x = random(64).astype(np.float16)
    y, z = (random(64, seed=seed).astype(np.float16) for seed in (1, 2))
    package = write(tmp_path / "one.mlpackage", lambda x: mb.add(x=mb.mul(x=x, y=y), y=z), x, types.fp16)
    (found,) = evaluate(package, x)
    np.testing.assert_array_equal(found, x * y + z)  # numpy rounds each float16 operation once, too
    assert not np.array_equal(found, (x.astype(np.float32) * y + z).astype(np.float16))


def test_float16_sums_are_rounded_once(tmp_path):
    """Adding 1 to 2048 one by one stays at 2048 in float16; summed in float32 and rounded once it does not."""
    x = np.ones((1, 4096), np.float16)
    weight = np.ones((1, 4096), np.float16)
    package = write(tmp_path / "one.mlpackage", lambda x: mb.linear(x=x, weight=weight), x, types.fp16)
    assert evaluate(package, x)[0].item() == 4096


def test_float16_overflows_to_infinity(tmp_path):
    x = np.array([300.0], np.float16)
    package = write(tmp_path / "one.mlpackage", lambda x: mb.square(x=x), x, types.fp16)
    assert evaluate(package, x)[0].item() == np.inf
