"""MIL operators, each with an input, a program that uses it, and its documented meaning stated in numpy."""

from __future__ import annotations

import math

import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from operator_meanings import bilinear, convolve, erf, normalize, pool, random, sigmoid, softmax

MAP = random(2, 4, 6, 7)  # [B, C, H, W]
MATRIX = random(3, 5)
SIGNED = np.array([-1e3, -4.0, -3.0, -1.0, -0.4, -0.0, 0.0, 0.3, 0.5, 1.0, 3.0, 6.5, 50.0], np.float32)
POSITIVE = np.array([1e-4, 0.5, 1.0, 2.0, 100.0], np.float32)


W3, B6 = random(6, 4, 3, 2, seed=1), random(6, seed=2)
GROUPED = random(6, 2, 3, 2, seed=1)
LINEAR, LINEAR_BIAS = random(6, 5, seed=3), random(6, seed=4)
OTHER = random(3, 5, seed=5)
GAMMA, BETA, MEAN = random(4, seed=6), random(4, seed=7), random(4, seed=8)
VARIANCE = np.abs(random(4, seed=9)) + 0.5
COLUMN = GAMMA[:, None, None], BETA[:, None, None], MEAN[:, None, None], VARIANCE[:, None, None]
STACKED = random(2, 3, 4, 6, seed=10)
SHUFFLED = random(2, 12, 2, 5, seed=11)
INDEX = np.array([2, 0, -1], np.int32)
CORNERS = random(2, 4, 3, 3)

# (operator, input, program, meaning)
CASES = [
    ("add", MATRIX, lambda x: mb.add(x=x, y=OTHER[0]), lambda x: x + OTHER[0]),
    ("sub", MATRIX, lambda x: mb.sub(x=1.5, y=x), lambda x: 1.5 - x),
    ("mul", MATRIX, lambda x: mb.mul(x=x, y=OTHER), lambda x: x * OTHER),
    ("real_div", MATRIX, lambda x: mb.real_div(x=x, y=OTHER), lambda x: x / OTHER),
    ("pow", POSITIVE, lambda x: mb.pow(x=x, y=1.5), lambda x: x**1.5),
    ("maximum", MATRIX, lambda x: mb.maximum(x=x, y=0.1), lambda x: np.maximum(x, 0.1)),
    ("minimum", MATRIX, lambda x: mb.minimum(x=x, y=OTHER), lambda x: np.minimum(x, OTHER)),
    ("abs", SIGNED, lambda x: mb.abs(x=x), np.abs),
    ("erf", SIGNED, lambda x: mb.erf(x=x), erf),
    ("exp", MATRIX, lambda x: mb.exp(x=x), np.exp),
    ("identity", MATRIX, lambda x: mb.identity(x=x), lambda x: x),
    ("relu", SIGNED, lambda x: mb.relu(x=x), lambda x: np.maximum(x, 0)),
    ("relu6", SIGNED, lambda x: mb.relu6(x=x), lambda x: np.clip(x, 0, 6)),
    ("sigmoid", SIGNED[1:], lambda x: mb.sigmoid(x=x), sigmoid),
    ("silu", SIGNED[1:], lambda x: mb.silu(x=x), lambda x: x * sigmoid(x)),
    ("sqrt", POSITIVE, lambda x: mb.sqrt(x=x), np.sqrt),
    ("square", SIGNED, lambda x: mb.square(x=x), np.square),
    ("tanh", SIGNED, lambda x: mb.tanh(x=x), np.tanh),
    ("inverse", POSITIVE, lambda x: mb.inverse(x=x), lambda x: 1 / (x + 1e-4)),
    ("inverse", POSITIVE, lambda x: mb.inverse(x=x, epsilon=0.5), lambda x: 1 / (x + 0.5)),
    ("rsqrt", POSITIVE, lambda x: mb.rsqrt(x=x), lambda x: 1 / np.sqrt(x)),
    ("rsqrt", POSITIVE, lambda x: mb.rsqrt(x=x, epsilon=0.5), lambda x: 1 / np.sqrt(x + 0.5)),
    ("log", POSITIVE, lambda x: mb.log(x=x), np.log),
    ("log", POSITIVE, lambda x: mb.log(x=x, epsilon=0.5), lambda x: np.log(x + 0.5)),
    ("gelu", SIGNED, lambda x: mb.gelu(x=x), lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))),
    (
        "gelu",
        SIGNED,
        lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    ("gelu", SIGNED[1:], lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"), lambda x: x * sigmoid(1.702 * x)),
    (
        "sigmoid_hard",
        SIGNED,
        lambda x: mb.sigmoid_hard(x=x, alpha=0.3, beta=0.4),
        lambda x: np.clip(0.3 * x + 0.4, 0, 1),
    ),
    ("clip", SIGNED, lambda x: mb.clip(x=x, alpha=-0.5, beta=2.0), lambda x: np.clip(x, -0.5, 2)),
    ("leaky_relu", SIGNED, lambda x: mb.leaky_relu(x=x, alpha=0.1), lambda x: np.where(x < 0, 0.1 * x, x)),
    ("thresholded_relu", SIGNED, lambda x: mb.thresholded_relu(x=x, alpha=0.5), lambda x: x * (x >= 0.5)),
    ("softmax", MAP, lambda x: mb.softmax(x=x), lambda x: softmax(x, -1)),
    ("softmax", MAP, lambda x: mb.softmax(x=x, axis=1), lambda x: softmax(x, 1)),
    ("cast", SIGNED, lambda x: mb.cast(x=mb.cast(x=x, dtype="int32"), dtype="fp32"), np.trunc),
    ("cast", SIGNED, lambda x: mb.cast(x=mb.cast(x=x, dtype="bool"), dtype="int32"), lambda x: x != 0),
    *(
        (
            kind,
            SIGNED,
            lambda x, f=f: mb.cast(x=f(x=x, y=0.3), dtype="fp32"),
            lambda x, g=g: g(x, np.float32(0.3)),
        )
        for kind, f, g in (
            ("equal", mb.equal, np.equal),
            ("not_equal", mb.not_equal, np.not_equal),
            ("greater", mb.greater, np.greater),
            ("greater_equal", mb.greater_equal, np.greater_equal),
            ("less", mb.less, np.less),
            ("less_equal", mb.less_equal, np.less_equal),
        )
    ),
    (
        "logical_not",
        SIGNED,
        lambda x: mb.cast(x=mb.logical_not(x=mb.greater(x=x, y=0.3)), dtype="fp32"),
        lambda x: ~(x > np.float32(0.3)),
    ),
    (
        "select",
        SIGNED,
        lambda x: mb.select(cond=mb.greater(x=x, y=0.0), a=x, b=-7.0),
        lambda x: np.where(x > 0, x, -7),
    ),
    *(
        (kind, MAP, lambda x, f=f: f(x=x, axes=[1, -1]), meaning)
        for kind, f, meaning in (
            ("reduce_mean", mb.reduce_mean, lambda x: x.mean((1, 3))),
            ("reduce_sum", mb.reduce_sum, lambda x: x.sum((1, 3))),
            ("reduce_max", mb.reduce_max, lambda x: x.max((1, 3))),
            ("reduce_min", mb.reduce_min, lambda x: x.min((1, 3))),
            ("reduce_l2_norm", mb.reduce_l2_norm, lambda x: np.sqrt((x**2).sum((1, 3)))),
        )
    ),
    ("reduce_mean", MAP, lambda x: mb.reduce_mean(x=x, keep_dims=True), lambda x: x.mean(keepdims=True)),
    (
        "conv",
        MAP,
        lambda x: mb.conv(x=x, weight=W3, bias=B6, strides=[2, 1], pad_type="custom", pad=[1, 0, 0, 2]),
        lambda x: convolve(x, W3, B6, (2, 1), (1, 0, 0, 2), (1, 1), 1),
    ),
    (
        "conv",
        MAP,
        lambda x: mb.conv(x=x, weight=GROUPED, pad_type="valid", dilations=[2, 3], groups=2),
        lambda x: convolve(x, GROUPED, np.zeros(6), (1, 1), (0, 0, 0, 0), (2, 3), 2),
    ),
    ("linear", MATRIX, lambda x: mb.linear(x=x, weight=LINEAR), lambda x: x @ LINEAR.T),
    (
        "linear",
        MATRIX,
        lambda x: mb.linear(x=x, weight=LINEAR, bias=LINEAR_BIAS),
        lambda x: x @ LINEAR.T + LINEAR_BIAS,
    ),
    ("matmul", STACKED, lambda x: mb.matmul(x=x, y=random(6, 5)), lambda x: x @ random(6, 5)),
    (
        "matmul",
        STACKED,
        lambda x: mb.matmul(x=x, y=random(2, 3, 5, 4), transpose_x=True, transpose_y=True),
        lambda x: np.einsum("bhnd,bhen->bhde", x, random(2, 3, 5, 4)),
    ),
    (
        "einsum",
        STACKED,
        lambda x: mb.einsum(values=(x, random(2, 6, 4, 5)), equation="nchw,nwhu->nchu"),
        lambda x: np.einsum("nchw,nwhu->nchu", x, random(2, 6, 4, 5)),
    ),
    (
        "einsum",
        STACKED,
        lambda x: mb.einsum(values=(x, random(1, 6, 1, 5)), equation="bkhc,bchq->bkhq"),
        lambda x: np.einsum("bkhc,cq->bkhq", x, random(6, 5)),
    ),
    (
        "einsum",
        STACKED[0],
        lambda x: mb.einsum(values=(x, random(6, 4, 5)), equation="chw,whr->chr"),
        lambda x: np.einsum("chw,whr->chr", x, random(6, 4, 5)),
    ),
    (
        "batch_norm",
        MAP,
        lambda x: mb.batch_norm(x=x, mean=MEAN, variance=VARIANCE, gamma=GAMMA, beta=BETA, epsilon=0.1),
        lambda x: COLUMN[0] * (x - COLUMN[2]) / np.sqrt(COLUMN[3] + 0.1) + COLUMN[1],
    ),
    (
        "instance_norm",
        MAP,
        lambda x: mb.instance_norm(x=x, gamma=GAMMA, beta=BETA, epsilon=0.1),
        lambda x: normalize(x, (2, 3), 0.1) * COLUMN[0] + COLUMN[1],
    ),
    ("layer_norm", MAP, lambda x: mb.layer_norm(x=x, axes=[0, 1, 2, 3]), lambda x: normalize(x, (0, 1, 2, 3), 1e-5)),
    (
        "layer_norm",
        MAP,
        lambda x: mb.layer_norm(x=x, axes=[1, -1], gamma=random(4, 7), beta=random(4, 7, seed=1), epsilon=0.1),
        lambda x: normalize(x, (1, 3), 0.1) * random(4, 7)[:, None] + random(4, 7, seed=1)[:, None],
    ),
    (
        "max_pool",
        MAP - 9,  # padding must not win
        lambda x: mb.max_pool(x=x, kernel_sizes=[3, 2], strides=[2, 1], pad_type="custom", pad=[1, 1, 0, 1]),
        lambda x: pool(x, np.max, (3, 2), (2, 1), (1, 1, 0, 1), -np.inf),
    ),
    (
        "avg_pool",
        MAP,
        lambda x: mb.avg_pool(x=x, kernel_sizes=[3, 2], strides=[2, 1], pad_type="custom", pad=[1, 1, 0, 1]),
        lambda x: pool(x, np.mean, (3, 2), (2, 1), (1, 1, 0, 1), 0.0),
    ),
    (
        "avg_pool",
        MAP,
        lambda x: mb.avg_pool(
            x=x, kernel_sizes=[3, 2], pad_type="custom", pad=[1, 1, 0, 1], exclude_padding_from_average=True
        ),
        lambda x: pool(x, np.nanmean, (3, 2), (1, 1), (1, 1, 0, 1), np.nan),
    ),
    (
        "upsample_bilinear",
        CORNERS,
        lambda x: mb.upsample_bilinear(
            x=x, scale_factor_height=(4 + 1e-4) / 3, scale_factor_width=2.0, align_corners=False
        ),
        lambda x: bilinear(x, (4, 6), aligned=False),
    ),
    (
        "upsample_bilinear",
        CORNERS,
        lambda x: mb.upsample_bilinear(x=x, scale_factor_height=2.0, scale_factor_width=(2 + 1e-4) / 3),
        lambda x: bilinear(x, (6, 2), aligned=True),
    ),
    (
        "resize_bilinear",
        CORNERS,
        lambda x: mb.resize_bilinear(
            x=x, target_size_height=5, target_size_width=2, sampling_mode="STRICT_ALIGN_CORNERS"
        ),
        lambda x: bilinear(x, (5, 2), aligned=True),
    ),
    (
        "resize_bilinear",
        CORNERS,
        lambda x: mb.resize_bilinear(x=x, target_size_height=5, target_size_width=2, sampling_mode="UNALIGN_CORNERS"),
        lambda x: bilinear(x, (5, 2), aligned=False),
    ),
    (
        "upsample_nearest_neighbor",
        CORNERS,
        lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
        lambda x: np.kron(x, np.ones((2, 3))),
    ),
    ("reshape", STACKED, lambda x: mb.reshape(x=x, shape=[0, -1, 4, 3]), lambda x: x.reshape(2, 6, 4, 3)),
    ("transpose", STACKED, lambda x: mb.transpose(x=x, perm=[1, -1, 0, 2]), lambda x: x.transpose(1, 3, 0, 2)),
    ("expand_dims", MATRIX, lambda x: mb.expand_dims(x=x, axes=[-1, 1]), lambda x: x[:, None, :, None]),
    ("squeeze", MATRIX[None, :, None], lambda x: mb.squeeze(x=x), lambda x: x[0, :, 0]),
    ("squeeze", MATRIX[None, :, None], lambda x: mb.squeeze(x=x, axes=[-2]), lambda x: x[:, :, 0]),
    ("concat", MATRIX, lambda x: mb.concat(values=[x, OTHER, x], axis=-1), lambda x: np.concatenate([x, OTHER, x], 1)),
    (
        "concat",
        MATRIX,
        lambda x: mb.concat(values=[x, OTHER], axis=0, interleave=True),
        lambda x: np.stack([x[0], OTHER[0], x[1], OTHER[1], x[2], OTHER[2]]),
    ),
    ("stack", MATRIX, lambda x: mb.stack(values=[x, OTHER], axis=1), lambda x: np.stack([x, OTHER], 1)),
    ("split", STACKED, lambda x: mb.split(x=x, num_splits=3, axis=-1)[1], lambda x: x[..., 2:4]),
    ("split", STACKED, lambda x: mb.split(x=x, split_sizes=[1, 3, 2], axis=3)[1], lambda x: x[..., 1:4]),
    (
        "slice_by_index",
        STACKED,
        lambda x: mb.slice_by_index(
            x=x,
            begin=[1, -2, 3, 1],
            end=[0, 0, -1, -1],
            stride=[1, 1, 1, 2],
            begin_mask=[False, False, True, False],
            end_mask=[False, True, False, False],
            squeeze_mask=[True, False, False, False],
        ),
        lambda x: x[1, -2:, :-1, 1:-1:2],
    ),
    (
        "pixel_shuffle",
        SHUFFLED,
        lambda x: mb.pixel_shuffle(x=x, upscale_factor=2),
        lambda x: x.reshape(2, 3, 2, 2, 2, 5).transpose(0, 1, 4, 2, 5, 3).reshape(2, 3, 4, 10),
    ),
    (
        "pixel_unshuffle",
        STACKED,
        lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
        lambda x: x.reshape(2, 3, 2, 2, 3, 2).transpose(0, 1, 3, 5, 2, 4).reshape(2, 12, 2, 3),
    ),
    ("gather", STACKED, lambda x: mb.gather(x=x, indices=INDEX, axis=-2), lambda x: x[:, :, INDEX]),
    ("gather", STACKED, lambda x: mb.gather(x=x, indices=np.int32(1)), lambda x: x[1]),
    ("tile", MATRIX, lambda x: mb.tile(x=x, reps=[2, 3]), lambda x: np.tile(x, (2, 3))),
    ("reverse", STACKED, lambda x: mb.reverse(x=x, axes=[1, -1]), lambda x: x[:, ::-1, :, ::-1]),
    ("reverse", MATRIX, lambda x: mb.reverse(x=x), lambda x: x[::-1, ::-1]),
    (
        "pad",
        MAP,
        lambda x: mb.pad(x=x, pad=[1, 2, 0, 3], constant_val=7.0),
        lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 3)), constant_values=7),
    ),
    (
        "pad",
        MAP,
        lambda x: mb.pad(x=x, pad=[1, 2, 0, 3], mode="reflect"),
        lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 3)), "reflect"),
    ),
    (
        "pad",
        MAP,
        lambda x: mb.pad(x=x, pad=[1, 2, 0, 3], mode="replicate"),
        lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 3)), "edge"),
    ),
]
