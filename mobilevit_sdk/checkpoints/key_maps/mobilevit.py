"""MobileViT v1: Apple's ml-cvnets, where the weights come from, and the conversions of timm and transformers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from mobilevit_sdk.checkpoints.key_maps import KeyMap
from mobilevit_sdk.models.mobilevit import MobileViTConfig, StageConfig
from mobilevit_sdk.spec import Preprocessing

Row = tuple[str, str, str, str]  # ours, ml-cvnets, timm, transformers
_CVNETS, _TIMM, _TRANSFORMERS = 1, 2, 3

# fmt: off
#    ours              ml-cvnets                  timm            transformers
_CONV_NORM_ACT = (
    ("conv",           "block.conv",              "conv",         "convolution"),
    ("norm",           "block.norm",              "bn",           "normalization"),
)
_ENDS = (  # each a ConvNormAct
    ("stem",           "conv_1",                  "stem",         "conv_stem"),
    ("final_conv",     "conv_1x1_exp",            "final_conv",   "conv_1x1_exp"),
)
_INVERTED_RESIDUAL = (  # each a ConvNormAct
    ("expand",         "block.exp_1x1",           "conv1_1x1",    "expand_1x1"),
    ("depthwise",      "block.conv_3x3",          "conv2_kxk",    "conv_3x3"),
    ("project",        "block.red_1x1",           "conv3_1x1",    "reduce_1x1"),
)
_MOBILEVIT_BLOCK = (  # each a ConvNormAct
    ("local_conv",     "local_rep.conv_3x3",      "conv_kxk",     "conv_kxk"),
    ("project",        "conv_proj",               "conv_proj",    "conv_projection"),
    ("fuse",           "fusion",                  "conv_fusion",  "fusion"),
)
_LOCAL_PROJECT = (  # a convolution alone
    ("local_project",  "local_rep.conv_1x1.block.conv", "conv_1x1", "conv_1x1.convolution"),
)
_TRANSFORMER_BLOCK = (
    ("norm1",          "pre_norm_mha.0",          "norm1",        "layernorm_before"),
    ("attention.qkv",  "pre_norm_mha.1.qkv_proj", "attn.qkv",     "attention.attention.{query,key,value}"),
    ("attention.proj", "pre_norm_mha.1.out_proj", "attn.proj",    "attention.output.dense"),
    ("norm2",          "pre_norm_ffn.0",          "norm2",        "layernorm_after"),
    ("mlp.fc1",        "pre_norm_ffn.1",          "mlp.fc1",      "intermediate.dense"),
    ("mlp.fc2",        "pre_norm_ffn.4",          "mlp.fc2",      "output.dense"),
)
_HEAD = (
    ("head",           "classifier.fc",           "head.fc",      "classifier"),
)
# fmt: on


def inside(scope: Row, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows of a table where a module of `scope` holds them."""
    for row in rows:
        ours, cvnets, timm, transformers = (f"{outer}.{inner}" for outer, inner in zip(scope, row, strict=True))
        yield ours, cvnets, timm, transformers


def conv_norm_act(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        yield from inside(row, _CONV_NORM_ACT)


def stage_rows(index: int, stage: StageConfig, block: Iterable[Row]) -> Iterator[Row]:
    """Stage `index`, from 0: its inverted residuals, and its MobileViT block, of these rows, if it has one."""
    outer = (f"stages.{index}", f"layer_{index + 1}", f"stages.{index}", f"encoder.layer.{index}")
    for i in range(stage.blocks):
        residual = (str(i), str(i), str(i), "downsampling_layer" if stage.dim else f"layer.{i}")
        yield from inside(outer, inside(residual, conv_norm_act(_INVERTED_RESIDUAL)))
    if stage.dim:
        *others, transformers = outer  # which puts the MobileViT block's layers right into the stage
        ours, cvnets, timm = (f"{name}.{stage.blocks}" for name in others)
        yield from inside((ours, cvnets, timm, transformers), block)


def _mobilevit_block(depth: int) -> Iterator[Row]:
    yield from conv_norm_act(_MOBILEVIT_BLOCK)
    yield from _LOCAL_PROJECT
    for i in range(depth):
        layer = (f"transformer.{i}", f"global_rep.{i}", f"transformer.{i}", f"transformer.layer.{i}")
        yield from inside(layer, _TRANSFORMER_BLOCK)
    yield ("norm", f"global_rep.{depth}", "norm", "layernorm")


def _rows(config: MobileViTConfig) -> Iterator[Row]:
    """Every module that holds tensors, by its four names."""
    yield from conv_norm_act(_ENDS)
    for index, stage in enumerate(config.stages):
        yield from stage_rows(index, stage, _mobilevit_block(stage.depth))
    yield from _HEAD


def _modules(config: MobileViTConfig, *, release: int) -> dict[str, tuple[str, ...]]:
    return {row[0]: alternatives(row[release]) for row in _rows(config)}


def alternatives(name: str) -> tuple[str, ...]:
    """`a.{b,c}.d` stands for `a.b.d` and `a.c.d`, as in a shell."""
    before, brace, rest = name.partition("{")
    if not brace:
        return (name,)
    choices, _, after = rest.partition("}")
    return tuple(f"{before}{choice}{after}" for choice in choices.split(","))


# All take [0, 1] without mean or std. The weights were trained on BGR; timm turned the stem's kernels to RGB.
_AS_TRAINED = Preprocessing(image_size=(256, 256), resize_size=288, interpolation="bilinear", channel_order="bgr")
_AS_TIMM = Preprocessing(image_size=(256, 256), resize_size=284, interpolation="bicubic")  # crop_pct 0.9

LAYOUTS = (
    KeyMap(
        "ml-cvnets",
        "mobilevit",
        partial(_modules, release=_CVNETS),
        lambda spec: _AS_TRAINED,
        backbone_lacks=("final_conv",),
    ),
    KeyMap("timm", "mobilevit", partial(_modules, release=_TIMM), lambda spec: _AS_TIMM),
    KeyMap(
        "transformers",
        "mobilevit",
        partial(_modules, release=_TRANSFORMERS),
        lambda spec: _AS_TRAINED,
        prefix="mobilevit.",
        backbone_lacks=("final_conv",),
    ),
)
