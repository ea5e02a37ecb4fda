"""TinyViT: Microsoft's Cream, where the weights come from, and the conversion of timm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
import torch
from torch import Tensor

from mobilevit_sdk.checkpoints.key_maps import KeyMap
from mobilevit_sdk.models.tiny_vit import MAX_WINDOW, TinyViTConfig
from mobilevit_sdk.spec import ModelSpec, Preprocessing

Row = tuple[str, str, str]  # ours, Cream, timm
_CREAM, _TIMM = 1, 2

# fmt: off
#    ours                        Cream                    timm
_CONV_NORM = (
    ("conv",                     "c",                     "conv"),
    ("norm",                     "bn",                    "bn"),
)
_STEM = (  # each a ConvNormAct
    ("stem.0",                   "patch_embed.seq.0",     "patch_embed.conv1"),
    ("stem.1",                   "patch_embed.seq.2",     "patch_embed.conv2"),
)
_BOTTLENECK = (  # of MBConv and PatchMerging, each a ConvNormAct
    ("expand",                   "conv1",                 "conv1"),
    ("depthwise",                "conv2",                 "conv2"),
    ("project",                  "conv3",                 "conv3"),
)
_LOCAL_CONV = (
    ("local_conv",               "local_conv",            "local_conv"),
)
_BLOCK = (
    ("norm1",                    "attn.norm",             "attn.norm"),
    ("attention.qkv",            "attn.qkv",              "attn.qkv"),
    ("attention.proj",           "attn.proj",             "attn.proj"),
    ("norm2",                    "mlp.norm",              "mlp.norm"),
    ("mlp.fc1",                  "mlp.fc1",               "mlp.fc1"),
    ("mlp.fc2",                  "mlp.fc2",               "mlp.fc2"),
)
_TABLE = (  # a tensor, not a module
    ("attention.position_bias.table", "attn.attention_biases", "attn.attention_biases"),
)
_HEAD = (
    ("norm",                     "norm_head",             "head.norm"),
    ("head",                     "head",                  "head.fc"),
)
# fmt: on


def _inside(scope: Row, rows: tuple[Row, ...]) -> Iterator[Row]:
    """The rows of a table where a module of `scope` holds them."""
    for ours, cream, timm in rows:
        yield f"{scope[0]}.{ours}", f"{scope[1]}.{cream}", f"{scope[2]}.{timm}"


def _conv_norms(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(inner for row in rows for inner in _inside(row, _CONV_NORM))


def _blocks(config: TinyViTConfig) -> Iterator[tuple[int, Row]]:
    """Every block with attention: the index of its stage, and its three names."""
    for stage, depth in list(enumerate(config.depths))[1:]:
        for i in range(depth):
            yield stage, (f"stages.{stage}.blocks.{i}", f"layers.{stage}.blocks.{i}", f"stages.{stage}.blocks.{i}")


def _rows(config: TinyViTConfig) -> Iterator[Row]:
    """Every module that holds tensors, by its three names."""
    yield from _conv_norms(_STEM)
    for i in range(config.depths[0]):
        yield from _inside((f"stages.0.{i}", f"layers.0.blocks.{i}", f"stages.0.blocks.{i}"), _conv_norms(_BOTTLENECK))
    for stage in range(1, len(config.depths)):  # Cream counts the downsampling to the stage before
        downsample = (f"stages.{stage}.downsample", f"layers.{stage - 1}.downsample", f"stages.{stage}.downsample")
        yield from _inside(downsample, _conv_norms(_BOTTLENECK))
    for _, block in _blocks(config):
        yield from _inside(block, (*_conv_norms(_LOCAL_CONV), *_BLOCK, *_TABLE))
    yield from _HEAD


def _modules(config: TinyViTConfig, *, release: int) -> dict[str, tuple[str, ...]]:
    return {row[0]: (row[release],) for row in _rows(config)}


def _head_by_head(config: TinyViTConfig) -> dict[str, Tensor]:
    """Both releases keep q, k and v of one head together; ours are all of q, all of k, all of v."""
    rows = {}
    for stage, (block, *_) in _blocks(config):
        dim, head_dim = config.dims[stage], config.head_dim
        theirs = torch.arange(3 * dim).view(dim // head_dim, 3, head_dim)  # [heads, 3, d]
        rows[f"{block}.attention.qkv"] = theirs.transpose(0, 1).flatten()
    return rows


def _indices(config: TinyViTConfig) -> dict[str, str]:
    """Cream numbers offsets as they first occur, which in a square window is row by row: the order of our table."""
    return {
        f"{cream}.attn.attention_bias_idxs": f"{ours}.attention.position_bias.index"
        for _, (ours, cream, _) in _blocks(config)
    }


def _window_sizes(tensors: Mapping[str, Tensor], *, stages: str) -> dict[str, Any]:
    """The windows of a file, from its tables [heads, window_size**2]; nothing where any is not of that kind."""
    sizes: list[int] = []
    while (table := tensors.get(f"{stages}.{len(sizes) + 1}.blocks.0.attn.attention_biases")) is not None:
        offsets = table.shape[-1] if table.ndim == 2 else 0
        sizes.append(math.isqrt(offsets))
        if sizes[-1] ** 2 != offsets or not 1 <= sizes[-1] <= MAX_WINDOW:
            return {}
    return {"window_sizes": tuple(sizes)} if sizes else {}


def _preprocessing(spec: ModelSpec, *, crops: Mapping[int, float | None], crop: float) -> Preprocessing:
    """RGB with ImageNet's mean and std, at the size that the windows are made for: resized bicubically and cropped.

    `crops` holds, for image sizes, the share of the shorter side that the crop leaves, or None for squashing the image
    without a crop; `crop` is that of any other size.
    """
    size = msgspec.convert(spec.config, TinyViTConfig).native_image_size
    share = crops.get(size, crop)
    return msgspec.structs.replace(
        spec.preprocessing,
        image_size=(size, size),
        resize_size=int(size / share) if share else size,
        resize_mode="shorter" if share else "squash",
    )


LAYOUTS = (
    KeyMap(
        "cream",
        "tiny_vit",
        partial(_modules, release=_CREAM),
        partial(_preprocessing, crops={384: None, 512: None}, crop=224 / 256),
        rows=_head_by_head,
        derived=_indices,
        container="model",
        options=partial(_window_sizes, stages="layers"),
    ),
    KeyMap(
        "timm",
        "tiny_vit",
        partial(_modules, release=_TIMM),
        partial(_preprocessing, crops={384: 1.0, 512: None}, crop=0.95),
        rows=_head_by_head,
        options=partial(_window_sizes, stages="stages"),
    ),
)
