"""How ml-cvnets and Cream call what timm calls otherwise.

Neither is a package that `make.py` could run. The key maps of the SDK are written from our names to theirs; this is
written from timm's, a second time and the other way round, so that a mistake in one shows in the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")
Rule = tuple[str, str | Callable[[re.Match[str]], str]]

_CVNETS: tuple[Rule, ...] = (  # what both networks of ml-cvnets share; applied in this order
    (r"^stem\.", "conv_1."),
    (r"^stages\.(\d)\.", lambda found: f"layer_{int(found[1]) + 1}."),
    (r"\.conv(?:1_1x1|2_kxk|3_1x1)\.", lambda found: f".block{found[0]}"),
    (r"\.conv1_1x1\.", ".exp_1x1."),
    (r"\.conv2_kxk\.", ".conv_3x3."),
    (r"\.conv3_1x1\.", ".red_1x1."),
    (r"(layer_3\.1|layer_4\.1|layer_5\.1)\.norm\.", lambda found: f"{found[1]}.global_rep.{_DEPTHS[found[1]]}."),
    (r"\.transformer\.", ".global_rep."),
)
_DEPTHS = {"layer_3.1": 2, "layer_4.1": 4, "layer_5.1": 3}  # the last norm is counted after the transformer's layers
_CVNETS_CONV: tuple[Rule, ...] = (
    (r"\.conv\.", ".block.conv."),
    (r"\.bn\.", ".block.norm."),
)

RULES: dict[tuple[str, str], tuple[Rule, ...]] = {
    ("mobilevit", "ml-cvnets"): (
        (r"^final_conv\.", "conv_1x1_exp."),
        (r"^head\.fc\.", "classifier.fc."),
        *_CVNETS,
        (r"\.conv_kxk\.", ".local_rep.conv_3x3."),
        (r"\.conv_1x1\.weight", ".local_rep.conv_1x1.conv.weight"),
        (r"\.conv_fusion\.", ".fusion."),
        *_CVNETS_CONV,
        (r"\.norm1\.", ".pre_norm_mha.0."),
        (r"\.attn\.qkv\.", ".pre_norm_mha.1.qkv_proj."),
        (r"\.attn\.proj\.", ".pre_norm_mha.1.out_proj."),
        (r"\.norm2\.", ".pre_norm_ffn.0."),
        (r"\.mlp\.fc1\.", ".pre_norm_ffn.1."),
        (r"\.mlp\.fc2\.", ".pre_norm_ffn.4."),
    ),
    ("mobilevitv2", "ml-cvnets"): (
        (r"^head\.fc\.", "classifier.1."),
        *_CVNETS,
        (r"\.conv_kxk\.", ".local_rep.0."),
        (r"\.conv_1x1\.weight", ".local_rep.1.conv.weight"),
        *_CVNETS_CONV,
        (r"\.norm1\.", ".pre_norm_attn.0."),
        (r"\.attn\.(qkv|out)_proj\.", r".pre_norm_attn.1.\1_proj.block.conv."),
        (r"\.norm2\.", ".pre_norm_ffn.0."),
        (r"\.mlp\.fc1\.", ".pre_norm_ffn.1.block.conv."),
        (r"\.mlp\.fc2\.", ".pre_norm_ffn.3.block.conv."),
    ),
    ("tiny_vit", "cream"): (
        (r"^patch_embed\.conv1\.", "patch_embed.seq.0."),
        (r"^patch_embed\.conv2\.", "patch_embed.seq.2."),
        (r"^head\.norm\.", "norm_head."),
        (r"^head\.fc\.", "head."),
        (r"^stages\.(\d)\.downsample\.", lambda found: f"layers.{int(found[1]) - 1}.downsample."),
        (r"^stages\.", "layers."),
        (r"\.conv\.weight$", ".c.weight"),
    ),
    ("efficientvit", "cream"): (
        (r"^patch_embed\.conv(\d)\.", lambda found: f"patch_embed.{2 * int(found[1]) - 2}."),
        (r"^head\.linear\.", "head.l."),
        (r"^stages\.0\.blocks\.", "blocks1."),
        (r"^stages\.(\d)\.blocks\.(\d)\.", lambda found: f"blocks{int(found[1]) + 1}.{int(found[2]) + 3}."),
        (r"^stages\.(\d)\.downsample\.res1\.", lambda found: f"blocks{int(found[1]) + 1}.0."),
        (r"^stages\.(\d)\.downsample\.patchmerge\.", lambda found: f"blocks{int(found[1]) + 1}.1."),
        (r"^stages\.(\d)\.downsample\.res2\.", lambda found: f"blocks{int(found[1]) + 1}.2."),
        (r"\.conv\.weight$", ".c.weight"),
    ),
}


def renamed(from_timm: Mapping[str, T], family: str, release: str) -> dict[str, T]:
    """The same values under the names of `release`, in the same order."""
    result = {}
    for name, value in from_timm.items():
        for pattern, replacement in RULES[family, release]:
            name = re.sub(pattern, replacement, name)
        result[name] = value
    assert len(result) == len(from_timm), "two tensors have one name"
    return result
