"""MobileViTv2: Apple's ml-cvnets, where the weights come from, and the conversions of timm and transformers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mobilevit_sdk.checkpoints.key_maps import KeyMap
from mobilevit_sdk.checkpoints.key_maps.mobilevit import Row, conv_norm_act, inside, stage_rows
from mobilevit_sdk.models.mobilevitv2 import MobileViTv2Config

_CVNETS, _TIMM, _TRANSFORMERS = 1, 2, 3

# fmt: off
#    ours              ml-cvnets                                timm              transformers
_STEM = (  # a ConvNormAct
    ("stem",           "conv_1",                                "stem",           "conv_stem"),
)
_MOBILEVIT_BLOCK = (  # each a ConvNormAct
    ("local_conv",     "local_rep.0",                           "conv_kxk",       "conv_kxk"),
    ("project",        "conv_proj",                             "conv_proj",      "conv_projection"),
)
_LOCAL_PROJECT = (  # a convolution alone
    ("local_project",  "local_rep.1.block.conv",                "conv_1x1",       "conv_1x1.convolution"),
)
_TRANSFORMER_BLOCK = (
    ("norm1",          "pre_norm_attn.0",                       "norm1",          "layernorm_before"),
    ("attention.qkv",  "pre_norm_attn.1.qkv_proj.block.conv",   "attn.qkv_proj",  "attention.qkv_proj.convolution"),
    ("attention.proj", "pre_norm_attn.1.out_proj.block.conv",   "attn.out_proj",  "attention.out_proj.convolution"),
    ("norm2",          "pre_norm_ffn.0",                        "norm2",          "layernorm_after"),
    ("mlp.fc1",        "pre_norm_ffn.1.block.conv",             "mlp.fc1",        "ffn.conv1.convolution"),
    ("mlp.fc2",        "pre_norm_ffn.3.block.conv",             "mlp.fc2",        "ffn.conv2.convolution"),
)
_HEAD = (
    ("head",           "classifier.1",                          "head.fc",        "classifier"),
)
# fmt: on


def _mobilevit_block(depth: int) -> Iterator[Row]:
    yield from conv_norm_act(_MOBILEVIT_BLOCK)
    yield from _LOCAL_PROJECT
    for i in range(depth):
        layer = (f"transformer.blocks.{i}", f"global_rep.{i}", f"transformer.{i}", f"transformer.layer.{i}")
        yield from inside(layer, _TRANSFORMER_BLOCK)
    yield ("transformer.norm", f"global_rep.{depth}", "norm", "layernorm")


def _rows(config: MobileViTv2Config) -> Iterator[Row]:
    """Every module that holds tensors, by its four names."""
    yield from conv_norm_act(_STEM)
    for index, stage in enumerate(config.stages):
        yield from stage_rows(index, stage, _mobilevit_block(stage.depth))
    yield from _HEAD


def _modules(config: MobileViTv2Config, *, release: int) -> dict[str, tuple[str, ...]]:
    return {row[0]: (row[release],) for row in _rows(config)}


# All hold the weights that ml-cvnets v0.2 trained on RGB, unchanged; 288 is also what timm's crop_pct 0.888 comes to.
# transformers' image processor turns RGB into BGR unless told otherwise, and its conversion did not tell it: where
# a preprocessor_config.json beside the weights says so, it is followed, as transformers itself does.
LAYOUTS = (
    KeyMap("ml-cvnets", "mobilevitv2", partial(_modules, release=_CVNETS)),
    KeyMap("timm", "mobilevitv2", partial(_modules, release=_TIMM)),
    KeyMap("transformers", "mobilevitv2", partial(_modules, release=_TRANSFORMERS), prefix="mobilevitv2."),
)
