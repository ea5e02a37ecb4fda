"""EfficientViT: Microsoft's Cream, where the weights come from, and the conversion of timm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
from torch import Tensor

from mobilevit_sdk.checkpoints.key_maps import KeyMap
from mobilevit_sdk.models.efficientvit import MAX_WINDOW, EfficientViTConfig
from mobilevit_sdk.spec import ModelSpec, Preprocessing

Row = tuple[str, str, str]  # ours, Cream, timm
_CREAM, _TIMM = 1, 2
# Windows -> image size in pixels: they tell it roughly, and these are the sizes of the paper.
_TRAINED_SIZES: dict[tuple[int, ...], int] = {(7, 7, 4): 224, (7, 7, 7): 512}

# fmt: off
#    ours                             Cream                       timm
_CONV_NORM = (
    ("conv",                          "c",                        "conv"),
    ("norm",                          "bn",                       "bn"),
)
_PATCH_EMBED = (  # each a ConvNormAct
    ("patch_embed.0",                 "patch_embed.0",            "patch_embed.conv1"),
    ("patch_embed.1",                 "patch_embed.2",            "patch_embed.conv2"),
    ("patch_embed.2",                 "patch_embed.4",            "patch_embed.conv3"),
    ("patch_embed.3",                 "patch_embed.6",            "patch_embed.conv4"),
)
_DOWNSAMPLE = (  # each a ConvNormAct; in Cream the first three places of the stage's list
    ("dw0.branch",                    "0.0.m",                    "res1.0.m"),
    ("ffn0.branch.expand",            "0.1.m.pw1",                "res1.1.m.pw1"),
    ("ffn0.branch.project",           "0.1.m.pw2",                "res1.1.m.pw2"),
    ("mixer.expand",                  "1.conv1",                  "patchmerge.conv1"),
    ("mixer.depthwise",               "1.conv2",                  "patchmerge.conv2"),
    ("mixer.project",                 "1.conv3",                  "patchmerge.conv3"),
    ("dw1.branch",                    "2.0.m",                    "res2.0.m"),
    ("ffn1.branch.expand",            "2.1.m.pw1",                "res2.1.m.pw1"),
    ("ffn1.branch.project",           "2.1.m.pw2",                "res2.1.m.pw2"),
)
_SQUEEZE_EXCITE = (
    ("mixer.squeeze_excite.fc1",      "1.se.fc1",                 "patchmerge.se.fc1"),
    ("mixer.squeeze_excite.fc2",      "1.se.fc2",                 "patchmerge.se.fc2"),
)
_BLOCK = (  # each a ConvNormAct
    ("dw0.branch",                    "dw0.m",                    "dw0.m"),
    ("ffn0.branch.expand",            "ffn0.m.pw1",               "ffn0.m.pw1"),
    ("ffn0.branch.project",           "ffn0.m.pw2",               "ffn0.m.pw2"),
    ("mixer.branch.proj",             "mixer.m.attn.proj.1",      "mixer.m.attn.proj.1"),
    ("dw1.branch",                    "dw1.m",                    "dw1.m"),
    ("ffn1.branch.expand",            "ffn1.m.pw1",               "ffn1.m.pw1"),
    ("ffn1.branch.project",           "ffn1.m.pw2",               "ffn1.m.pw2"),
)
_HEADS = (  # of attention, in each a ConvNormAct for every head
    ("mixer.branch.qkv",              "mixer.m.attn.qkvs",        "mixer.m.attn.qkvs"),
    ("mixer.branch.token_interaction", "mixer.m.attn.dws",        "mixer.m.attn.dws"),
)
_TABLE = (  # a tensor, not a module
    ("mixer.branch.position_bias.table", "mixer.m.attn.attention_biases", "mixer.m.attn.attention_biases"),
)
_INDEX = (  # a tensor, in Cream alone
    ("mixer.branch.position_bias.index", "mixer.m.attn.attention_bias_idxs", ""),
)
_CLASSIFIERS = (
    ("head.norm",                     "head.bn",                  "head.bn"),
    ("head.linear",                   "head.l",                   "head.linear"),
    ("head.norm_dist",                "head_dist.bn",             "head_dist.bn"),
    ("head.linear_dist",              "head_dist.l",              "head_dist.linear"),
)
# fmt: on


def _inside(scope: Row, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows of a table where a module of `scope` holds them."""
    for row in rows:
        ours, cream, timm = (f"{outer}.{inner}" for outer, inner in zip(scope, row, strict=True))
        yield ours, cream, timm


def _conv_norms(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        yield from _inside(row, _CONV_NORM)


def _each_head(num_heads: int) -> Iterator[Row]:
    for i in range(num_heads):
        for ours, cream, timm in _HEADS:
            yield f"{ours}.{i}", f"{cream}.{i}", f"{timm}.{i}"


def _blocks(config: EfficientViTConfig) -> Iterator[tuple[int, Row]]:
    """Every block with attention: the index of its stage, and its three names."""
    for index, stage in enumerate(config.stages):
        for i in range(stage.blocks):
            in_cream = i + 3 if index else i  # behind the downsampling
            name = f"stages.{index}.blocks.{i}"
            yield index, (name, f"blocks{index + 1}.{in_cream}", name)


def _rows(config: EfficientViTConfig) -> Iterator[Row]:
    """Every module that holds tensors, by its three names."""
    yield from _conv_norms(_PATCH_EMBED)
    for index in range(1, len(config.stages)):
        downsample = (f"stages.{index}.downsample", f"blocks{index + 1}", f"stages.{index}.downsample")
        yield from _inside(downsample, (*_conv_norms(_DOWNSAMPLE), *_SQUEEZE_EXCITE))
    for index, block in _blocks(config):
        heads = _each_head(config.stages[index].num_heads)
        yield from _inside(block, (*_conv_norms((*_BLOCK, *heads)), *_TABLE))
    yield from _CLASSIFIERS


def _modules(config: EfficientViTConfig, *, release: int) -> dict[str, tuple[str, ...]]:
    return {row[0]: (row[release],) for row in _rows(config)}


def _indices(config: EfficientViTConfig) -> dict[str, str]:
    """Cream numbers offsets as they first occur, which in a square window is row by row: the order of our table."""
    return {cream: ours for _, block in _blocks(config) for ours, cream, _ in _inside(block, _INDEX)}


def _options(tensors: Mapping[str, Tensor], *, first_blocks: tuple[str, ...]) -> dict[str, Any]:
    """Whether a file has a second classifier, and its windows, from the tables [heads, window_size**2].

    `first_blocks` are those of the stages. Says nothing of windows where any table is missing or of no square window.
    """
    distilled = {"distilled": any(name.startswith("head_dist.") for name in tensors)}
    sizes = []
    for block in first_blocks:
        table = tensors.get(f"{block}.mixer.m.attn.attention_biases")
        offsets = table.shape[-1] if table is not None and table.ndim == 2 else 0
        sizes.append(math.isqrt(offsets))
        if sizes[-1] ** 2 != offsets or not 1 <= sizes[-1] <= MAX_WINDOW:
            return distilled
    return distilled | {"window_sizes": tuple(sizes), "max_window_size": max(7, *sizes)}


def _preprocessing(spec: ModelSpec, *, squash_others: bool) -> Preprocessing:
    """RGB with ImageNet's mean and std, at the size that the windows are made for, resized bicubically and cropped.

    With `squash_others`, all sizes but 224x224 are squashed without a crop, as Cream evaluates what it fine-tunes.
    """
    config = msgspec.convert(spec.config, EfficientViTConfig)
    filled = max(size * 16 * 2**i for i, size in enumerate(config.window_sizes))  # every map is one window or more
    side = _TRAINED_SIZES.get(config.window_sizes, filled)
    squash = squash_others and side != 224
    return msgspec.structs.replace(
        spec.preprocessing,
        image_size=(side, side),
        resize_size=side if squash else int(side * 256 / 224),
        resize_mode="squash" if squash else "shorter",
    )


LAYOUTS = (
    KeyMap(
        "cream",
        "efficientvit",
        partial(_modules, release=_CREAM),
        partial(_preprocessing, squash_others=True),
        derived=_indices,
        stores_derived=True,
        container="model",
        classifier="head.linear",
        classifier_norm="head.norm",
        options=partial(_options, first_blocks=("blocks1.0", "blocks2.3", "blocks3.3")),
    ),
    KeyMap(
        "timm",
        "efficientvit",
        partial(_modules, release=_TIMM),
        partial(_preprocessing, squash_others=False),
        classifier="head.linear",
        classifier_norm="head.norm",
        options=partial(_options, first_blocks=tuple(f"stages.{i}.blocks.0" for i in range(3))),
    ),
)
