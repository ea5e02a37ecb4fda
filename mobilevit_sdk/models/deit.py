"""DeiT, https://arxiv.org/abs/2012.12877, and DeiT III, https://arxiv.org/abs/2204.07118: variants of `ViT`."""

from __future__ import annotations

from mobilevit_sdk.models.registry import register_model
from mobilevit_sdk.models.vit import AT_384, BASE, MEDIUM, SMALL, TINY, Fields, ViTConfig, info

_DEIT = ("https://arxiv.org/abs/2012.12877", "Apache-2.0 (facebookresearch/deit)")
_DEIT3 = ("https://arxiv.org/abs/2204.07118", "Apache-2.0 (facebookresearch/deit)")
_DISTILLED = Fields(distillation_token=True, distillation_head=True)
_III = Fields(layer_scale=True, class_position=False)


@register_model(info(_DEIT, "ImageNet-1k", 72.190))
def deit_tiny_patch16_224() -> ViTConfig:
    return ViTConfig(**TINY)


@register_model(info(_DEIT, "ImageNet-1k", 79.856))
def deit_small_patch16_224() -> ViTConfig:
    return ViTConfig(**SMALL)


@register_model(info(_DEIT, "ImageNet-1k", 81.980))
def deit_base_patch16_224() -> ViTConfig:
    return ViTConfig(**BASE)


@register_model(info(_DEIT, "ImageNet-1k", 83.108, image_size=384))
def deit_base_patch16_384() -> ViTConfig:
    return ViTConfig(**BASE, **AT_384)


@register_model(info(_DEIT, "ImageNet-1k, distilled", 74.538))
def deit_tiny_distilled_patch16_224() -> ViTConfig:
    return ViTConfig(**TINY, **_DISTILLED)


@register_model(info(_DEIT, "ImageNet-1k, distilled", 81.204))
def deit_small_distilled_patch16_224() -> ViTConfig:
    return ViTConfig(**SMALL, **_DISTILLED)


@register_model(info(_DEIT, "ImageNet-1k, distilled", 83.384))
def deit_base_distilled_patch16_224() -> ViTConfig:
    return ViTConfig(**BASE, **_DISTILLED)


@register_model(info(_DEIT, "ImageNet-1k, distilled", 85.438, image_size=384))
def deit_base_distilled_patch16_384() -> ViTConfig:
    return ViTConfig(**BASE, **_DISTILLED, **AT_384)


@register_model(info(_DEIT3, "ImageNet-1k", 81.382))
def deit3_small_patch16_224() -> ViTConfig:
    return ViTConfig(**SMALL, **_III)


@register_model(info(_DEIT3, "ImageNet-1k", 83.432, image_size=384))
def deit3_small_patch16_384() -> ViTConfig:
    return ViTConfig(**SMALL, **_III, **AT_384)


@register_model(info(_DEIT3, "ImageNet-1k", 83.086))
def deit3_medium_patch16_224() -> ViTConfig:
    return ViTConfig(**MEDIUM, **_III)


@register_model(info(_DEIT3, "ImageNet-1k", 83.800))
def deit3_base_patch16_224() -> ViTConfig:
    return ViTConfig(**BASE, **_III)


@register_model(info(_DEIT3, "ImageNet-1k", 85.088, image_size=384))
def deit3_base_patch16_384() -> ViTConfig:
    return ViTConfig(**BASE, **_III, **AT_384)
