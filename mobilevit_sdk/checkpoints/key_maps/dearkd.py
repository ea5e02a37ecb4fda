"""DearKD: nobody has published weights, so that there are our own names alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mobilevit_sdk.checkpoints.key_maps import OWN, KeyMap
from mobilevit_sdk.checkpoints.key_maps.vit import OURS, preprocessing_at_grid, vit_options


def _options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What ViT's files show, and how many blocks have relative positions, of how many heads."""
    tables = [tensor for name, tensor in tensors.items() if name.endswith("attention.position_bias.table")]
    heads = {"num_heads": len(tables[0])} if tables and tables[0].ndim == 2 else {}
    return vit_options(tensors, release=OURS, norm_eps=None) | {"relative_blocks": len(tables)} | heads


LAYOUTS = (
    KeyMap(
        OWN,
        "dearkd",
        lambda config: {},
        preprocessing_at_grid,
        classifier="head.linear",
        options=_options,
        backbone_lacks=("head",),
    ),
)
