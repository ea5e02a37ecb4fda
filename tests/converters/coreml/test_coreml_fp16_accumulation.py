"""The worst case of float16: each operator that sums, against the same sum in numpy's float16, one term at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

ct = pytest.importorskip("coremltools")

from coreml_operator_cases import CASES  # noqa: E402
from coremltools.converters.mil.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import types  # noqa: E402
from mobilevit_converters.coreml import converter  # noqa: E402
from mobilevit_converters.coreml.runtimes.reference.operators import OPERATORS  # noqa: E402
from mobilevit_converters.coreml.runtimes.reference.operators.fp16_accumulation import FP16_ACCUMULATION  # noqa: E402
from mobilevit_converters.coreml.runtimes.reference.program import ReferenceProgram  # noqa: E402
from operator_meanings import random, windows  # noqa: E402
from test_coreml_operators import write  # noqa: E402

from mobilevit_sdk.formats.runtime import OnRequestRuntime  # noqa: E402

MAP = random(2, 4, 6, 7).astype(np.float16)  # [B, C, H, W]
MATRIX = random(3, 40).astype(np.float16)
OTHER = random(40, 5, seed=1).astype(np.float16)
KERNEL = random(6, 2, 3, 3, seed=2).astype(np.float16)  # [D, C / groups, kh, kw]
EPSILON = np.float16(1e-3)
BIAS = random(6, seed=3).astype(np.float16)
GAMMA, BETA = (random(7, seed=seed).astype(np.float16) for seed in (4, 5))


def evaluate(path, build, x, *, fp16_accumulation=True, dtype=types.fp16):
    package = write(path / f"{len(list(path.iterdir()))}.mlpackage", build, x, dtype)
    program = ReferenceProgram(package, fp16_accumulation=fp16_accumulation)
    (name,), (answer,) = program.inputs, program.output_names
    return program({name: torch.from_numpy(x)})[answer].numpy()


def dot(xs, ys):
    """The products are exact, what they are added to is float16."""
    total = np.float16(0)
    for x, y in zip(xs, ys, strict=True):
        total = np.float16(np.float64(total) + np.float64(x) * np.float64(y))
    return total


def total(xs):
    return dot(xs, np.ones(len(xs)))


def product(x, y):
    return np.array([[dot(row, column) for column in y.T] for row in x], np.float16)


def along(function, x, axis=-1):
    return np.apply_along_axis(function, axis, x)


def normalize(x, gamma, beta):
    """The last axis; the norm's own arithmetic in float32, rounded where the operator ends."""

    def one(row):
        deviations = row - np.float16(np.float32(total(row)) / len(row))
        variance = np.float16(np.float32(dot(deviations, deviations)) / len(row))
        return deviations.astype(np.float32) / np.sqrt(np.float32(variance) + np.float32(EPSILON))

    return (along(one, x) * gamma.astype(np.float32) + beta.astype(np.float32)).astype(np.float16)


def convolved():
    out = np.zeros((2, 6, 4, 5), np.float16)
    for i, j, window in windows(MAP, (3, 3), (1, 1)):
        for b, d in np.ndindex(2, 6):
            group = slice(0, 2) if d < 3 else slice(2, 4)
            out[b, d, i, j] = dot(window[b, group].ravel(), KERNEL[d].ravel()) + BIAS[d]
    return out


def averaged():
    out = np.zeros((2, 4, 3, 3), np.float16)
    for i, j, window in windows(MAP, (2, 2), (2, 2)):
        for b, c in np.ndindex(2, 4):
            out[b, c, i, j] = np.float32(total(window[b, c].ravel())) / np.float32(4)
    return out


def softmax(row):
    powers = np.exp((row - row.max()).astype(np.float32)).astype(np.float16)
    return (powers.astype(np.float32) / np.float32(total(powers))).astype(np.float16)


def einsum(x, y):
    out = np.zeros((2, 4, 6, 3), np.float16)
    for b, c, h, u in np.ndindex(*out.shape):
        out[b, c, h, u] = dot(x[b, c, h], y[b, :, h, u])
    return out


RIGHT = random(2, 7, 6, 3, seed=6).astype(np.float16)  # [B, W, H, U]
FLAT = MAP.reshape(8, -1)
SUMS = {
    "matmul": (MATRIX, lambda x: mb.matmul(x=x, y=OTHER), lambda: product(MATRIX, OTHER)),
    "matmul transposed": (
        MATRIX,
        lambda x: mb.matmul(x=x, y=OTHER.T.copy(), transpose_y=True),
        lambda: product(MATRIX, OTHER),
    ),
    "linear": (
        MATRIX,
        lambda x: mb.linear(x=x, weight=OTHER.T.copy(), bias=BIAS[:5]),
        lambda: product(MATRIX, OTHER) + BIAS[:5],
    ),
    "conv": (MAP, lambda x: mb.conv(x=x, weight=KERNEL, bias=BIAS, groups=2, pad_type="valid"), convolved),
    "einsum": (
        MAP,
        lambda x: mb.einsum(values=(x, RIGHT), equation="nchw,nwhu->nchu"),
        lambda: einsum(MAP, RIGHT),
    ),
    "layer_norm": (
        MAP,
        lambda x: mb.layer_norm(x=x, axes=[-1], gamma=GAMMA, beta=BETA, epsilon=EPSILON),
        lambda: normalize(MAP, GAMMA, BETA),
    ),
    "instance_norm": (
        MAP,
        lambda x: mb.instance_norm(x=x, gamma=GAMMA[:4], beta=BETA[:4], epsilon=EPSILON),
        lambda: normalize(FLAT, np.tile(GAMMA[:4], 2)[:, None], np.tile(BETA[:4], 2)[:, None]).reshape(MAP.shape),
    ),
    "softmax": (MATRIX, lambda x: mb.softmax(x=x, axis=-1), lambda: along(softmax, MATRIX)),
    "softmax over rows": (MATRIX, lambda x: mb.softmax(x=x, axis=0), lambda: along(softmax, MATRIX, 0)),
    "avg_pool": (
        MAP,
        lambda x: mb.avg_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"),
        averaged,
    ),
    "reduce_sum": (
        MAP,
        lambda x: mb.reduce_sum(x=x, axes=[2, 3], keep_dims=False),
        lambda: along(total, MAP.reshape(2, 4, -1)),
    ),
    "reduce_mean": (
        MATRIX,
        lambda x: mb.reduce_mean(x=x, axes=[-1], keep_dims=True),
        lambda: (along(total, MATRIX)[:, None].astype(np.float32) / 40).astype(np.float16),
    ),
    "reduce_l2_norm": (
        FLAT,
        lambda x: mb.reduce_l2_norm(x=x, axes=[-1], keep_dims=False),
        lambda: np.sqrt(along(lambda row: dot(row, row), FLAT).astype(np.float32)).astype(np.float16),
    ),
}


@pytest.mark.parametrize("name", SUMS)
def test_each_partial_sum_is_rounded(name, tmp_path):
    x, build, meaning = SUMS[name]
    found, expected = evaluate(tmp_path, build, x), meaning()
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.astype(np.float16), expected)
    at_once = evaluate(tmp_path, build, x, fp16_accumulation=False)
    assert not np.array_equal(found, at_once)
    np.testing.assert_allclose(found, at_once, rtol=0.05, atol=0.05)


def test_every_operator_that_sums_has_its_case():
    assert {name.split(" ")[0] for name in SUMS} == set(FP16_ACCUMULATION)
    assert set(FP16_ACCUMULATION) <= set(OPERATORS)


@pytest.mark.parametrize(
    ("kind", "x", "build", "meaning"),
    [case for case in CASES if case[0] in FP16_ACCUMULATION],
    ids=[f"{case[0]}-{i}" for i, case in enumerate(case for case in CASES if case[0] in FP16_ACCUMULATION)],
)
def test_but_for_rounding_it_is_the_same_operator(kind, x, build, meaning, tmp_path, monkeypatch):
    """Every variant that the reference covers: strides, pads, dilations, groups, axes, transposes."""
    monkeypatch.setattr(
        "mobilevit_converters.coreml.runtimes.reference.operators.fp16_accumulation._round", lambda values: values
    )
    monkeypatch.setattr(
        "mobilevit_converters.coreml.runtimes.reference.program.OPERATORS", OPERATORS | FP16_ACCUMULATION
    )
    found = evaluate(tmp_path, build, x, dtype=types.fp32)
    with np.errstate(all="ignore"):
        expected = np.asarray(meaning(x))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=3e-5, atol=3e-6)


def test_a_float32_program_is_summed_in_float32(tmp_path):
    ones = np.ones((1, 4096), np.float32)
    assert evaluate(tmp_path, lambda x: mb.linear(x=x, weight=ones), ones, dtype=types.fp32).item() == 4096


def test_ones_stay_at_2048_and_squares_overflow(tmp_path):
    ones = np.ones((1, 4096), np.float16)
    assert evaluate(tmp_path, lambda x: mb.linear(x=x, weight=ones), ones).item() == 2048
    large = np.full((1, 64), 40, np.float16)
    assert evaluate(tmp_path, lambda x: mb.reduce_l2_norm(x=x, axes=[-1], keep_dims=False), large).item() == np.inf


def test_it_is_a_runtime_that_waits_to_be_asked_for():
    waiting = [runtime.name for runtime in converter.runtimes if isinstance(runtime, OnRequestRuntime)]
    assert waiting == ["coreml-cpu", "coreml-gpu", "coreml-ane", "coreml-fp16-accumulate"]
    assert all("coreml-fp16-accumulate" in [r.name for r in other.runtimes] for other in converter.backends.values())
