"""NaFlex-ViT: timm, the only release of this family with weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mobilevit_sdk.checkpoints.key_maps import KeyMap
from mobilevit_sdk.models.navit import NaViTConfig

# fmt: off
#    ours                        timm
_TOKENS = (
    ("tokens.proj",              "embeds.proj"),
    ("tokens.registers",         "embeds.reg_token"),
    ("tokens.positions.table",   "embeds.pos_embed"),
    ("tokens.positions.rows",    "embeds.pos_embed_y"),
    ("tokens.positions.columns", "embeds.pos_embed_x"),
)
_BLOCK = (
    ("norm1",                    "norm1"),
    ("attention.qkv",            "attn.qkv"),
    ("attention.proj",           "attn.proj"),
    ("layer_scale1.weight",      "ls1.gamma"),
    ("norm2",                    "norm2"),
    ("mlp.fc1",                  "mlp.fc1"),
    ("mlp.fc2",                  "mlp.fc2"),
    ("layer_scale2.weight",      "ls2.gamma"),
)
_ENDS = ("fc_norm", "head")
# fmt: on


def _modules(config: NaViTConfig) -> dict[str, tuple[str, ...]]:
    """`KeyMap.sources` asks for the tensors that the config has alone."""
    found: dict[str, tuple[str, ...]] = {each: (each,) for each in _ENDS}
    found |= {ours: (theirs,) for ours, theirs in _TOKENS}
    return found | {
        f"blocks.{i}.{ours}": (f"blocks.{i}.{theirs}",) for i in range(config.depth) for ours, theirs in _BLOCK
    }


def _options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a file shows beyond its variant: kind and number of positions, registers, biases, LayerScale.

    Whether positions keep the aspect ratio is not shown: `checkpoints.twins` sees to that.
    """
    table, rows = (tensors.get(f"embeds.{name}") for name in ("pos_embed", "pos_embed_y"))
    positions = rows if table is None else table
    if positions is None or positions.ndim != (3 if table is None else 4):
        return {}
    registers = tensors.get("embeds.reg_token")
    return {
        "positions": "learned" if table is None else "grid",
        "position_length": positions.shape[1],
        "registers": 0 if registers is None else registers.shape[1],
        "biases": "blocks.0.attn.qkv.bias" in tensors,
        "layer_scale": "blocks.0.ls1.gamma" in tensors,
    }


LAYOUTS = (KeyMap("timm", "navit", _modules, options=_options, backbone_lacks=("head",), models="naflexvit_*"),)
