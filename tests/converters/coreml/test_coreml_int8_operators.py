"""`quantize` and `dequantize` in coreml-reference: their documented meaning, and coremltools' own reading of it."""

from __future__ import annotations

import numpy as np
import pytest

ct = pytest.importorskip("coremltools")

from coremltools.converters.mil.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import types  # noqa: E402
from mobilevit_converters.coreml.file.package import read_package  # noqa: E402
from mobilevit_converters.coreml.toolchain import quiet  # noqa: E402
from operator_meanings import random  # noqa: E402
from test_coreml_operators import evaluate  # noqa: E402

X = np.concatenate([np.arange(-700, 701) / 4, [1e9, -1e9, 0.1, -0.1]]).astype(np.float32).reshape(5, -1)
LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
PER_ROW = random(5, seed=3).astype(np.float32) ** 2 + 0.1


def write(path, build, dtype=types.fp32):
    """A package of iOS 17 whose program is `build(x)`, not optimized in any way."""

    @mb.program(input_specs=[mb.TensorSpec(X.shape, dtype)], opset_version=ct.target.iOS17)
    def program(x):
        return build(x)

    with quiet():
        ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
            package_dir=str(path),
        )
    return read_package(path)


def round_trip(scale, zero_point, kind, axis=None):
    """x as integers, and as what they stand for."""
    more = {} if axis is None else {"axis": axis}
    zero = {} if zero_point is None else {"zero_point": np.asarray(zero_point, kind)[()]}

    def build(x):
        integers = mb.quantize(input=x, scale=scale, output_dtype=kind, **zero, **more)
        return mb.dequantize(input=integers, scale=np.ones_like(scale), **more), mb.dequantize(
            input=integers, scale=scale, **zero, **more
        )

    return build


CASES = [
    (np.float32(0.5), None, "int8", None),
    (np.float32(0.5), 3, "int8", None),
    (np.float32(1), 0, "int8", None),  # halves
    (np.float32(0.7), 128, "uint8", None),
    (np.float32(2.0), 0, "uint8", None),
    (PER_ROW, [-7, 0, 1, 100, -128], "int8", 0),
    (PER_ROW, None, "uint8", -2),
]


@pytest.mark.parametrize(("scale", "zero_point", "kind", "axis"), CASES)
def test_integers_and_what_they_stand_for_are_as_documented(scale, zero_point, kind, axis, tmp_path):
    integers, values = evaluate(write(tmp_path / "a.mlpackage", round_trip(scale, zero_point, kind, axis)), X)
    column = np.reshape(scale, (-1, 1)) if axis is not None else scale
    zero = 0 if zero_point is None else np.reshape(zero_point, (-1, 1)) if axis is not None else zero_point
    expected = np.clip(np.rint(X / column) + zero, *LIMITS[kind])  # numpy's rint rounds halves to even
    np.testing.assert_array_equal(integers, expected)
    assert {integers.min(), integers.max()} == set(LIMITS[kind])
    np.testing.assert_allclose(values, column * (expected - zero), rtol=1e-6)


@pytest.mark.parametrize(("scale", "zero_point", "kind", "axis"), CASES)
def test_coremltools_infers_the_same_integers(scale, zero_point, kind, axis, tmp_path):
    inferred = []

    def build(x):
        zero = {} if zero_point is None else {"zero_point": np.asarray(zero_point, kind)[()]}
        more = {} if axis is None else {"axis": axis}
        inferred.append(mb.quantize(input=X, scale=scale, output_dtype=kind, **zero, **more).val)
        return round_trip(scale, zero_point, kind, axis)(x)

    found, _ = evaluate(write(tmp_path / "a.mlpackage", build), X)
    assert inferred[0] is not None
    np.testing.assert_array_equal(found, inferred[0].astype(np.float32))


def test_float16_values_are_divided_before_they_are_rounded(tmp_path):
    """The quotient is not rounded to float16 first: 0.4995 stays below a half."""
    x = np.full(X.shape, 0.4995, np.float16)
    build = round_trip(np.float16(1), None, "int8")
    integers, _ = evaluate(write(tmp_path / "a.mlpackage", build, types.fp16), x)
    np.testing.assert_array_equal(integers, 0)
