"""Widths that the shapes of a file show, for networks as wide as none that is registered.

The depths are those of a registered variant, and so is what shapes do not show: strides, patches, the heads of
MobileViT. One function a family, in our names, serves every release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace
from torch import Tensor

from mobilevit_sdk.checkpoints.key_maps import KeyMap
from mobilevit_sdk.models.efficientvit import EfficientViTConfig
from mobilevit_sdk.models.mobilevit import MobileViTConfig, StageConfig
from mobilevit_sdk.models.mobilevitv2 import MobileViTv2Config
from mobilevit_sdk.models.navit import NaViTConfig
from mobilevit_sdk.models.tiny_vit import TinyViTConfig
from mobilevit_sdk.models.vit import ViTConfig

Size = Callable[..., int]  # (our name of a tensor, axis=0) -> its size in the file

# The layer that reads the image, by our names: a convolution, or NaViT's linear of patches.
_INPUTS = {
    "mobilevit": "stem.conv.weight",
    "mobilevitv2": "stem.conv.weight",
    "tiny_vit": "stem.0.conv.weight",
    "efficientvit": "patch_embed.0.conv.weight",
    "vit": "tokens.conv.weight",
    "navit": "tokens.proj.weight",
}


def read_widths(key_map: KeyMap, config: Any, tensors: Mapping[str, Tensor], *, all_of_them: bool) -> dict[str, Any]:
    """Fields of `config` as the shapes of a file have them: the input's channels or, where asked for, every width.

    `tensors` have the names of the release. Empty for a family whose widths are not read. Raises LookupError and
    ArithmeticError for a file without the tensors that show them.
    """

    def size(name: str, axis: int = 0) -> int:
        parts = [tensors[each] for each in key_map.sources(config, [name])[name]]
        return sum(part.shape[0] for part in parts) if axis == 0 else parts[0].shape[axis]

    if key_map.family not in _INPUTS:
        return {}
    found = _FAMILIES[key_map.family](config, size) if all_of_them else {}
    inputs = size(_INPUTS[key_map.family], 1)
    if key_map.family == "navit":
        inputs //= config.patch_size**2
    return found | {"in_channels": inputs}


def _inverted(stages: tuple[StageConfig, ...], size: Size, first_mlp: str) -> dict[str, Any]:
    """What MobileViT and its second version share: the stem, the stages, and the expansion of inverted residuals."""
    found = []
    for i, stage in enumerate(stages):
        channels = size(f"stages.{i}.{stage.blocks - 1}.project.conv.weight")
        dim, mlp_dim = 0, 0
        if stage.dim:
            dim = size(f"stages.{i}.{stage.blocks}.local_project.weight")
            mlp_dim = size(f"stages.{i}.{stage.blocks}.{first_mlp}.mlp.fc1.weight")
        found.append(replace(stage, channels=channels, dim=dim, mlp_dim=mlp_dim))
    expand = "stages.0.0.expand.conv.weight"
    return {
        "stages": tuple(found),
        "stem_channels": size("stem.conv.weight"),
        "expansion": size(expand) // size(expand, 1),
    }


def _mobilevit(config: MobileViTConfig, size: Size) -> dict[str, Any]:
    return _inverted(config.stages, size, "transformer.0") | {"final_channels": size("final_conv.conv.weight")}


def _mobilevitv2(config: MobileViTv2Config, size: Size) -> dict[str, Any]:
    return _inverted(config.stages, size, "transformer.blocks.0")


def _tiny_vit(config: TinyViTConfig, size: Size) -> dict[str, Any]:
    stages = range(1, len(config.dims))
    dims = (size("stem.1.conv.weight"), *(size(f"stages.{i}.downsample.project.conv.weight") for i in stages))
    return {
        "dims": dims,
        "head_dim": dims[1] // size("stages.1.blocks.0.attention.position_bias.table"),
        "expansion": size("stages.0.0.expand.conv.weight") // dims[0],
        "mlp_ratio": size("stages.1.blocks.0.mlp.fc1.weight") // dims[1],
    }


def _efficientvit(config: EfficientViTConfig, size: Size) -> dict[str, Any]:
    stages = []
    for i, stage in enumerate(config.stages):
        source = f"stages.{i}.downsample.mixer.project.conv.weight" if i else "patch_embed.3.conv.weight"
        heads = size(f"stages.{i}.blocks.0.mixer.branch.position_bias.table")
        stages.append(replace(stage, channels=size(source), num_heads=heads))
    most = max(range(len(stages)), key=lambda i: stages[i].num_heads)
    heads = stages[most].num_heads
    if heads > config.stages[most].num_heads:
        return {"stages": tuple(stages)}  # the names of further heads are not known to this variant
    attention = "stages.{}.blocks.0.mixer.branch"
    kernels = [size(f"{attention.format(most)}.token_interaction.{h}.conv.weight", -1) for h in range(heads)]
    values = stages[0].channels // stages[0].num_heads
    return {
        "stages": tuple(stages),
        "kernels": (*kernels, *config.kernels[heads:]),
        "key_dim": (size(f"{attention.format(0)}.qkv.0.conv.weight") - values) // 2,
    }


def _vit(config: ViTConfig, size: Size) -> dict[str, Any]:
    return _dims(size("tokens.conv.weight"), size) | {"patch_size": size("tokens.conv.weight", 2)}


def _navit(config: NaViTConfig, size: Size) -> dict[str, Any]:
    return _dims(size("tokens.proj.weight"), size)


def _dims(dim: int, size: Size) -> dict[str, Any]:
    """Weights do not show the heads; all published networks have 64 dimensions in each."""
    mlp_dim = size("blocks.0.mlp.fc1.weight")
    if dim % 64 or mlp_dim % dim:
        raise ArithmeticError(f"{dim} channels are not heads of 64, or {mlp_dim} within MLPs are no multiple of them")
    return {"dim": dim, "num_heads": dim // 64, "mlp_ratio": mlp_dim // dim}


_FAMILIES: dict[str, Callable[[Any, Size], dict[str, Any]]] = {
    "mobilevit": _mobilevit,
    "mobilevitv2": _mobilevitv2,
    "tiny_vit": _tiny_vit,
    "efficientvit": _efficientvit,
    "vit": _vit,
    "navit": _navit,
}
