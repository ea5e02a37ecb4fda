"""A network of each family with every kind of its blocks and almost no cost."""

from __future__ import annotations

from typing import Any

import msgspec

from mobilevit_sdk.models import dearkd, deepvit, detr, efficientvit, mobilevit, mobilevitv2, navit, tiny_vit, vit
from mobilevit_sdk.spec import ModelConfig, ModelSpec, Preprocessing


def small_specs() -> dict[str, ModelSpec]:
    """Specs by family, of ten classes, and a detector of seven."""
    v1 = mobilevit.MobileViTConfig(
        stages=(
            mobilevit.StageConfig(channels=8, blocks=2, stride=1),
            mobilevit.StageConfig(channels=12, blocks=1, stride=2, dim=16, mlp_dim=24, depth=2),
        ),
        expansion=2,
        final_channels=24,
        stem_channels=8,
        num_classes=10,
    )
    v2 = mobilevitv2.MobileViTv2Config(
        stages=(
            mobilevitv2.StageConfig(channels=8, blocks=2, stride=1),
            mobilevitv2.StageConfig(channels=12, blocks=1, stride=2, dim=16, mlp_dim=24, depth=2),
        ),
        stem_channels=8,
        num_classes=10,
    )
    tiny = tiny_vit.TinyViTConfig(dims=(8, 16, 24), depths=(1, 1, 1), window_sizes=(3, 3), head_dim=8, num_classes=10)
    efficient = efficientvit.EfficientViTConfig(
        stages=(
            efficientvit.StageConfig(channels=16, blocks=1, num_heads=2),
            efficientvit.StageConfig(channels=24, blocks=1, num_heads=3),
        ),
        kernels=(5, 3, 1),
        window_sizes=(3, 3),
        max_window_size=3,
        key_dim=4,
        num_classes=10,
    )
    return {
        "mobilevit": _spec("mobilevit_xxs", "mobilevit", v1, 32),
        "mobilevitv2": _spec("mobilevitv2_050", "mobilevitv2", v2, 32),
        "tiny_vit": _spec("tiny_vit_5m_224", "tiny_vit", tiny, 48),
        "efficientvit": _spec("efficientvit_m0", "efficientvit", efficient, 96),
        **_of_patches(),
        "detr": _spec("detr_resnet50", "detr", _detector(), 64),
    }


def _of_patches() -> dict[str, ModelSpec]:
    """Two blocks each: with distillation token, with and without re-attention, with and without relative positions."""
    sizes: dict[str, Any] = {"depth": 2, "mlp_ratio": 2, "patch_size": 8, "num_classes": 10}
    grid: dict[str, Any] = {**sizes, "image_size": (32, 32)}
    token = {"distillation_token": True, "distillation_head": True, "layer_scale": True}
    deep = {"conv_stem": True, "norm_scale": 0.5, "scaled_maps": True, "re_attention_from": 1}
    native: dict[str, Any] = {"position_length": 5, "registers": 2, "layer_scale": True}
    configs: dict[str, tuple[str, ModelConfig]] = {
        "vit": ("deit_tiny_distilled_patch16_224", vit.ViTConfig(dim=16, num_heads=2, **grid, **token)),
        "deepvit": ("deepvit_s", deepvit.DeepViTConfig(dim=16, num_heads=4, **grid, **deep)),
        "dearkd": ("dearkd_tiny_patch16_224", dearkd.DearKDConfig(dim=20, num_heads=5, relative_blocks=1, **grid)),
        "navit": ("navit_tiny_patch16", navit.NaViTConfig(dim=16, num_heads=2, **sizes, **native)),
    }
    return {family: _spec(model, family, config, 32) for family, (model, config) in configs.items()}


def _detector() -> ModelConfig:
    return detr.DETRConfig(
        num_classes=7,
        num_queries=6,
        dim=16,
        num_heads=2,
        mlp_dim=32,
        encoder_layers=1,
        decoder_layers=1,
        backbone_width=8,
        backbone_depths=(1, 1, 1, 1),
    )


def _spec(model: str, family: str, config: ModelConfig, size: int) -> ModelSpec:
    preprocessing = Preprocessing(
        image_size=(size, size), resize_size=size, mean=(0.4, 0.45, 0.5), std=(0.22, 0.23, 0.25)
    )
    return ModelSpec(model=model, family=family, config=msgspec.to_builtins(config), preprocessing=preprocessing)
