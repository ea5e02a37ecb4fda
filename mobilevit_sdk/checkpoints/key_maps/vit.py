"""ViT and DeiT: timm, whose names the authors' DeiT has; the authors' DeiT III; transformers, old names and new.

Google's own files (.npz) are read under timm's names, see `checkpoints/npz_file.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET
from torch import Tensor

from mobilevit_sdk.checkpoints.key_maps import KeyMap
from mobilevit_sdk.models.registry import model_entry
from mobilevit_sdk.models.vit import ViTConfig
from mobilevit_sdk.spec import ModelSpec, Preprocessing

Row = tuple[str, str, str, str, str]  # ours, timm, the authors' DeiT III, transformers' files, its networks from 5.0 on
OURS, TIMM, _FACEBOOK, _OLD, _NEW = range(5)

# fmt: off
#    ours                   timm                    DeiT III                transformers           transformers 5
_TOKENS = (
    ("tokens.conv",         "patch_embed.proj",     "patch_embed.proj",
     "embeddings.patch_embeddings.projection",      "embeddings.patch_embeddings.projection"),
    ("tokens.positions",    "pos_embed",            "pos_embed",
     "embeddings.position_embeddings",              "embeddings.position_embeddings"),
    ("norm",                "norm",                 "norm",                 "layernorm",            "layernorm"),
)
_PREFIX = (
    ("tokens.prefix",       "cls_token",            "cls_token",
     "embeddings.cls_token",                        "embeddings.cls_token"),
    ("tokens.prefix",       "dist_token",           "dist_token",
     "embeddings.distillation_token",               "embeddings.distillation_token"),
)
_QKV = (
    ("attention.qkv",       "attn.qkv",             "attn.qkv",
     "attention.attention.query",                   "attention.q_proj"),
    ("attention.qkv",       "attn.qkv",             "attn.qkv",
     "attention.attention.key",                     "attention.k_proj"),
    ("attention.qkv",       "attn.qkv",             "attn.qkv",
     "attention.attention.value",                   "attention.v_proj"),
)
_BLOCK = (
    ("norm1",               "norm1",                "norm1",                "layernorm_before",     "layernorm_before"),
    *_QKV,
    ("attention.proj",      "attn.proj",            "attn.proj",
     "attention.output.dense",                      "attention.o_proj"),
    ("norm2",               "norm2",                "norm2",                "layernorm_after",      "layernorm_after"),
    ("mlp.fc1",             "mlp.fc1",              "mlp.fc1",              "intermediate.dense",   "mlp.fc1"),
    ("mlp.fc2",             "mlp.fc2",              "mlp.fc2",              "output.dense",         "mlp.fc2"),
)
_SCALES = (  # tensors, not modules; transformers has none
    ("layer_scale1.weight", "ls1.gamma",            "gamma_1",              "lambda1",              "lambda1"),
    ("layer_scale2.weight", "ls2.gamma",            "gamma_2",              "lambda2",              "lambda2"),
)
_HEAD = ("head.linear",     "head",                 "head",                 "classifier",           "classifier")
_PRE_LOGITS = (  # of timm before 0.8 and Google's files alone; the others' classifiers read the norm
    ("pre_logits.linear",   "pre_logits.fc",        "pre_logits.linear",
     "pre_logits.linear",                           "pre_logits.linear"),
)
_TWO_HEADS = (
    ("head.linear",         "head",                 "head",                 "cls_classifier",       "cls_classifier"),
    ("head.linear_dist",    "head_dist",            "head_dist",
     "distillation_classifier",                     "distillation_classifier"),
)
# fmt: on
_LAYERS = ("blocks", "blocks", "blocks", "encoder.layer", "layers")


def _rows(config: ViTConfig) -> Iterator[Row]:
    """Every module, or tensor, by its five names; a name of ours once for each part of theirs that makes it.

    Factors of LayerScale are there for all networks, of which not all have them.
    """
    yield from _TOKENS
    yield from _PREFIX[: 1 + config.distillation_token]
    for i in range(config.depth):
        for row in (*_BLOCK, *_SCALES):
            ours, timm, facebook, old, new = (f"{outer}.{i}.{inner}" for outer, inner in zip(_LAYERS, row, strict=True))
            yield ours, timm, facebook, old, new
    yield from _PRE_LOGITS if config.representation_dim is not UNSET else ()
    yield from _TWO_HEADS if config.distillation_head else (_HEAD,)


def vit_modules(config: ViTConfig, *, release: int) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in _rows(config):
        if row[release] not in found.get(row[0], ()):  # one of theirs for three rows of ours
            found[row[0]] = (*found.get(row[0], ()), row[release])
    return found


def vit_options(tensors: Mapping[str, Tensor], *, release: int, norm_eps: float | None) -> dict[str, Any]:
    """What a file shows beyond its variant: the tokens, their positions and so the image, the heads, LayerScale."""

    def shape(module: str, rows: tuple[Row, ...], leaf: str = "") -> tuple[int, ...]:
        name = next(row[release] for row in rows if row[0] == module)
        return tuple(tensors[name + leaf].shape) if name + leaf in tensors else ()

    positions, kernel = shape("tokens.positions", _TOKENS), shape("tokens.conv", _TOKENS, ".weight")
    if len(positions) != 3 or len(kernel) != 4:
        return {}
    distilled = _PREFIX[1][release] in tensors
    scales = f"{_LAYERS[release]}.0.{_SCALES[0][release]}" in tensors
    found: dict[str, Any] = {
        "distillation_token": distilled,
        "distillation_head": f"{_TWO_HEADS[1][release]}.weight" in tensors,
        "layer_scale": scales,
    }
    for count, has_position in ((positions[1] - 1 - distilled, True), (positions[1], False)):
        side = math.isqrt(max(0, count))
        if side and side**2 == count:  # no two squares differ by 1 or 2
            found |= {"image_size": (side * kernel[2], side * kernel[3]), "class_position": has_position}
            break
    if representation := shape("pre_logits.linear", _PRE_LOGITS, ".weight"):
        found["representation_dim"] = representation[0]
    return found | ({"norm_eps": norm_eps} if norm_eps else {})


def preprocessing_at_grid(spec: ModelSpec) -> Preprocessing:
    """What the registry states, at the size that the positions are for."""
    height, width = spec.config["image_size"]
    stated = spec.preprocessing
    return stated if stated.image_size == (height, width) else stated.at_size(height, width)


def _preprocessing(spec: ModelSpec, *, release: str) -> Preprocessing:
    """What the registry states, at the size of the positions; a network that only DeiT has takes DeiT's images.

    transformers squashes ViT's images, by its processor's defaults.
    """
    config, stated = msgspec.convert(spec.config, ViTConfig), preprocessing_at_grid(spec)
    if release.endswith("deit") or config.distillation_token or config.layer_scale:
        deit = model_entry("deit_tiny_patch16_224").info.preprocessing
        return msgspec.structs.replace(stated, mean=deit.mean, std=deit.std)
    if release.startswith("transformers"):
        return msgspec.structs.replace(
            stated, resize_size=min(stated.image_size), resize_mode="squash", interpolation="bilinear"
        )
    return stated


def _key_map(
    name: str, release: int, *, prefix: str = "", norm_eps: float | None = None, container: str = ""
) -> KeyMap:
    modules: Callable[[ViTConfig], Mapping[str, tuple[str, ...]]] = partial(vit_modules, release=release)
    return KeyMap(
        name,
        "vit",
        modules,
        partial(_preprocessing, release=name),
        classifier="head.linear",
        prefix=prefix,
        options=partial(vit_options, release=release, norm_eps=norm_eps),
        container=container,
        backbone_lacks=("head",),
    )


_HF_EPS = 1e-12  # transformers' default, where the authors and timm have 1e-6; config.json may say otherwise

LAYOUTS = (
    _key_map("timm", TIMM),
    _key_map("deit", _FACEBOOK, container="model"),
    _key_map("transformers", _OLD, prefix="vit.", norm_eps=_HF_EPS),
    _key_map("transformers-deit", _OLD, prefix="deit.", norm_eps=_HF_EPS),
    _key_map("transformers-5", _NEW, prefix="vit.", norm_eps=_HF_EPS),
    _key_map("transformers-5-deit", _NEW, prefix="deit.", norm_eps=_HF_EPS),
)
