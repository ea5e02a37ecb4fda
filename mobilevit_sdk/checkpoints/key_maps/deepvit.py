"""DeepViT: the authors' code, whose names are timm's for ViT and their own for re-attention and the stem."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mobilevit_sdk.checkpoints.key_maps import KeyMap
from mobilevit_sdk.checkpoints.key_maps.vit import TIMM, preprocessing_at_grid, vit_modules
from mobilevit_sdk.models.deepvit import DeepViTConfig

# fmt: off
#    ours                          the authors'
_STEM = (
    ("tokens.stem.0.conv",         "patch_embed.conv1"),
    ("tokens.stem.0.norm",         "patch_embed.bn1"),
    ("tokens.stem.1.conv",         "patch_embed.conv2"),
    ("tokens.stem.1.norm",         "patch_embed.bn2"),
)
_MIXING = (
    ("attention.mixing.conv",      "attn.reatten_matrix"),
    ("attention.mixing.norm",      "attn.var_norm"),
)
# fmt: on


def _modules(config: DeepViTConfig) -> dict[str, tuple[str, ...]]:
    mixing = {
        f"blocks.{i}.{ours}": (f"blocks.{i}.{theirs}",)
        for i in range(config.re_attention_from, config.depth)
        for ours, theirs in _MIXING
    }
    stem = {ours: (theirs,) for ours, theirs in _STEM if config.conv_stem}
    return vit_modules(config, release=TIMM) | mixing | stem


def _options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The image, from the number of positions; the stem halves it once."""
    positions, kernel = tensors.get("pos_embed"), tensors.get("patch_embed.proj.weight")
    if positions is None or kernel is None or positions.ndim != 3 or kernel.ndim != 4:
        return {}
    side = math.isqrt(max(0, positions.shape[1] - 1))
    stem = "patch_embed.conv1.weight" in tensors
    patch = kernel.shape[2] * (2 if stem else 1)
    if not side or side**2 != positions.shape[1] - 1:
        return {}
    return {"image_size": (side * patch, side * patch)}


LAYOUTS = (
    KeyMap(
        "dvit",
        "deepvit",
        _modules,
        preprocessing_at_grid,
        classifier="head.linear",
        options=_options,
        container="state_dict",
        backbone_lacks=("head",),
    ),
)
