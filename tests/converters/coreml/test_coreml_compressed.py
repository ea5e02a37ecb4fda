"""Weights kept small in an .mlpackage: what coreml-reference makes of them is what coremltools documents."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

ct = pytest.importorskip("coremltools")

import coremltools.optimize.coreml as cto  # noqa: E402
from coremltools.converters.mil.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import types  # noqa: E402
from mobilevit_converters.coreml.file.package import load_program, operations, read_package  # noqa: E402
from mobilevit_converters.coreml.runtimes.reference.operators.compressed import COMPRESSED  # noqa: E402
from mobilevit_converters.coreml.toolchain import quiet  # noqa: E402
from operator_meanings import random  # noqa: E402
from test_coreml_operators import evaluate  # noqa: E402

WEIGHT = random(32, 64)
INT8 = np.arange(-12, 12, dtype=np.int8).reshape(2, 3, 4)
UINT8 = (INT8.astype(np.int16) + 128).astype(np.uint8)
HALVES = random(6, seed=2).astype(np.float16)
MASK = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 1]], np.bool_)


def pack(values, bits):
    """As iOS 16 documents it: the first in the lowest bits of the first byte."""
    stream = [value >> bit & 1 for value in values for bit in range(bits)]
    stream += [0] * (-len(stream) % 8)
    octets = [stream[at : at + 8] for at in range(0, len(stream), 8)]
    return np.array([sum(bit << i for i, bit in enumerate(octet)) for octet in octets], np.uint8)


def narrow(values, kind):
    return np.asarray(values).astype(types.nptype_from_builtin(kind))


def affine(data, zero_point, scale, axis):
    out = np.zeros(data.shape)
    for place in np.ndindex(*data.shape):
        zero, factor = (value[place[axis]] if np.ndim(value) else value for value in (zero_point, scale))
        out[place] = float(factor) * (float(data[place]) - float(zero))
    return out


def blockwise(data, scale, offset):
    out = np.zeros(data.shape)
    for place in np.ndindex(*data.shape):
        block = tuple(i // (size // count) for i, size, count in zip(place, data.shape, scale.shape, strict=True))
        out[place] = float(scale[block]) * (float(data[place]) - float(offset[block]))
    return out


def by_table(indices, lut, axis=None):
    """Entry `v` of the vector at an index comes to lie at `i * length + v` along `axis`."""
    length = lut.shape[-1]
    shape = [size * (length if i == axis else 1) for i, size in enumerate(indices.shape)]
    out = np.zeros(shape, lut.dtype)
    for place, v in itertools.product(np.ndindex(*indices.shape), range(length)):
        block = tuple(i // (size // n) for i, size, n in zip(place, indices.shape, lut.shape, strict=False))
        target = tuple(i * length + v if k == axis else i for k, i in enumerate(place))
        out[target] = lut[(*block, indices[place], v)]
    return out


TABLES = random(2, 1, 4, 1, seed=3)  # [blocks along 0, along 1, entries, length]
VECTORS = random(1, 2, 4, 3, seed=4)
KEYS = np.random.default_rng(5).integers(0, 4, (6, 4))
SCALES, OFFSETS = random(1, 3, 2, seed=6), random(1, 3, 2, seed=7)
NIBBLES = np.random.default_rng(8).integers(-8, 8, (2, 3, 4))
HELD = np.arange(6, dtype=np.int8)
PER_COLUMN = random(1, 4, seed=9)


def dense(values):
    out = np.zeros(MASK.shape, np.float32)
    out[MASK] = values
    return out


def sparse_lut():
    mask, found = mb.constexpr_lut_to_sparse(
        indices_mask=narrow(MASK, types.uint1),
        indices_nonzero_data=narrow(HELD % 4, types.uint2),
        lut=VECTORS[:, :1],
        vector_axis=np.int32(0),
    )
    return mb.constexpr_sparse_to_dense(nonzero_data=found, mask=mask)


def sparse_scale():
    mask, found = mb.constexpr_sparse_blockwise_shift_scale(
        data_mask=narrow(MASK, types.uint1),
        nonzero_data=HELD,
        scale=PER_COLUMN,
        offset=narrow([[1, 2, 3, 4]], types.int8),
    )
    return mb.constexpr_sparse_to_dense(nonzero_data=found, mask=mask)


IOS16 = [
    (
        lambda: mb.constexpr_affine_dequantize(
            quantized_data=INT8, zero_point=np.int8(3), scale=np.float32(0.1), axis=np.int32(0)
        ),
        affine(INT8, 3, np.float32(0.1), 0),
    ),
    (
        lambda: mb.constexpr_affine_dequantize(
            quantized_data=UINT8,
            zero_point=np.array([255, 0, 7], np.uint8),  # a difference that no uint8 holds
            scale=random(3),
            axis=np.int32(-2),
        ),
        affine(UINT8, np.array([255, 0, 7]), random(3), 1),
    ),
    *[
        (
            lambda bits=bits, lut=lut, keys=keys: mb.constexpr_lut_to_dense(
                indices=pack(keys.flatten().tolist(), bits), lut=lut, shape=np.array([5, 3], np.uint32)
            ),
            lut[keys],
        )
        for bits in (1, 2, 4, 6, 8)
        for lut in [random(2**bits, seed=bits)]
        for keys in [np.random.default_rng(bits).integers(0, 2**bits, (5, 3))]
    ],
    (
        lambda: mb.constexpr_sparse_to_dense(
            nonzero_data=random(6), mask=pack(MASK.flatten().tolist(), 1), shape=np.array(MASK.shape, np.uint32)
        ),
        dense(random(6)),
    ),
    (
        lambda: mb.constexpr_cast(source_val=HALVES, output_dtype="fp32"),
        HALVES.astype(np.float32),
    ),
]
IOS18 = [
    (
        lambda: mb.constexpr_blockwise_shift_scale(data=INT8, scale=SCALES),
        blockwise(INT8, SCALES, np.zeros_like(SCALES)),
    ),
    (
        lambda: mb.constexpr_blockwise_shift_scale(
            data=narrow(NIBBLES, types.int4), scale=SCALES, offset=narrow(np.full(SCALES.shape, -8), types.int4)
        ),
        blockwise(NIBBLES, SCALES, np.full(SCALES.shape, -8)),
    ),
    (
        lambda: mb.constexpr_blockwise_shift_scale(data=narrow(NIBBLES + 8, types.uint4), scale=SCALES, offset=OFFSETS),
        blockwise(NIBBLES + 8, SCALES, OFFSETS),
    ),
    (
        lambda: mb.constexpr_lut_to_dense(indices=narrow(KEYS, types.uint2), lut=TABLES),
        by_table(KEYS, TABLES),
    ),
    *[
        (
            lambda axis=axis: mb.constexpr_lut_to_dense(
                indices=narrow(KEYS, types.uint2), lut=VECTORS, vector_axis=np.int32(axis)
            ),
            by_table(KEYS, VECTORS, axis % 2),
        )
        for axis in (0, 1, -1)
    ],
    (
        lambda: mb.constexpr_sparse_to_dense(nonzero_data=random(6), mask=narrow(MASK, types.uint1)),
        dense(random(6)),
    ),
    (sparse_lut, by_table(dense(HELD % 4).astype(int), VECTORS[:, :1], 0) * MASK.repeat(3, 0)),
    (sparse_scale, affine(dense(HELD), np.array([1, 2, 3, 4]), PER_COLUMN[0], 1) * MASK),
    (
        lambda: mb.constexpr_blockwise_shift_scale(  # one behind the other
            data=mb.constexpr_lut_to_dense(
                indices=narrow(KEYS, types.uint2), lut=np.array([-128, -1, 0, 127], np.int8).reshape(1, 1, 4, 1)
            ),
            scale=np.full((1, 1), 0.5, np.float32),
        ),
        np.array([-128, -1, 0, 127])[KEYS] * 0.5,
    ),
]
TARGETS = [(ct.target.iOS16, IOS16), (ct.target.iOS18, IOS18)]


def write(path, build, target):
    """A package that adds what `build()` yields to a 0 that it is given."""

    @mb.program(input_specs=[mb.TensorSpec((1,), types.fp32)], opset_version=target)
    def program(x):
        return mb.add(x=x, y=build())

    with quiet():
        ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=target,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
            package_dir=str(path),
        )
    return read_package(path)


def kinds(package):
    return {operation.type for operation in operations(package.block) if operation.type.startswith("constexpr_")}


@pytest.mark.parametrize(
    ("target", "build", "expected"),
    [(target, *case) for target, cases in TARGETS for case in cases],
    ids=[f"{target.name}-{i}" for target, cases in TARGETS for i in range(len(cases))],
)
def test_weights_are_what_the_documentation_says(target, build, expected, tmp_path):
    package = write(tmp_path / "one.mlpackage", build, target)
    assert kinds(package)
    (found,) = evaluate(package, np.zeros(1, np.float32))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_no_kind_is_without_a_case(tmp_path):
    found = set()
    for target, cases in TARGETS:
        for i, (build, _) in enumerate(cases):
            found |= kinds(write(tmp_path / f"{target.name}-{i}.mlpackage", build, target))
    assert found == set(COMPRESSED)


COMPRESSIONS = {
    "int8": cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0),
    "uint8": cto.OpLinearQuantizerConfig(mode="linear", dtype="uint8", weight_threshold=0),
    "4-bit palette": cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=0),
    "sparse": cto.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=0),
    "int4 in blocks": cto.OpLinearQuantizerConfig(
        mode="linear", dtype="int4", granularity="per_block", block_size=16, weight_threshold=0
    ),
    "palettes of vectors": cto.OpPalettizerConfig(
        mode="kmeans", nbits=2, cluster_dim=2, granularity="per_grouped_channel", group_size=8, weight_threshold=0
    ),
}


@pytest.mark.parametrize("target", [ct.target.iOS16, ct.target.iOS18], ids=lambda target: target.name)
@pytest.mark.parametrize("name", COMPRESSIONS)
def test_what_coremltools_compresses_answers_as_its_own_reading_of_the_weights(name, target, tmp_path):
    if target == ct.target.iOS16 and name in ("int4 in blocks", "palettes of vectors"):
        target = ct.target.iOS17  # the newest that has them not: coremltools refuses
        with pytest.raises(Exception, match="iOS18"):
            compress(name, target, tmp_path)
        return
    package = compress(name, target, tmp_path)
    (kind,) = kinds(package)
    (op,) = (op for op in load_program(package).functions["main"].operations if op.op_type == kind)
    weight = op.materialized_val_inference().astype(np.float32)
    assert 1e-4 < np.abs(weight - WEIGHT).mean() < 1  # another matrix than the one that was compressed
    x = random(1, 64, seed=1).astype(np.float16)
    (found,) = evaluate(package, x)
    np.testing.assert_allclose(found, x.astype(np.float32) @ weight.T, rtol=2e-3, atol=2e-3)


def compress(name, target, folder):
    """The package of one linear whose weights are compressed."""

    @mb.program(input_specs=[mb.TensorSpec((1, 64), types.fp16)], opset_version=target)
    def program(x):
        return mb.linear(x=x, weight=WEIGHT.astype(np.float16))

    config = COMPRESSIONS[name]
    how = {
        cto.OpLinearQuantizerConfig: cto.linear_quantize_weights,
        cto.OpPalettizerConfig: cto.palettize_weights,
        cto.OpMagnitudePrunerConfig: cto.prune_weights,
    }[type(config)]
    with quiet():
        model = ct.convert(program, convert_to="mlprogram", minimum_deployment_target=target, skip_model_load=True)
        how(model, cto.OptimizationConfig(config)).save(str(folder / "one.mlpackage"))
    return read_package(folder / "one.mlpackage")


def test_blocks_that_do_not_divide_the_weights_are_refused():
    import torch

    with pytest.raises(ValueError, match="2 blocks do not divide 3 elements of axis 0"):
        COMPRESSED["constexpr_blockwise_shift_scale"](torch.ones(3), torch.ones(2))
