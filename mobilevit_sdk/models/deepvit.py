"""DeepViT: Towards Deeper Vision Transformer.

Zhou et al., 2021, https://arxiv.org/abs/2103.11886. ViT with maps of attention that each mix those of all heads, so
that deep blocks do not all attend alike. Written after the authors' code, https://github.com/zhoudaquan/dvit_repo.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta
from torch import nn

from mobilevit_sdk.layers import ConvNormAct
from mobilevit_sdk.models.block_widths import BlockWidths
from mobilevit_sdk.models.registry import register_family, register_model
from mobilevit_sdk.models.vit import Fields, ViT, ViTConfig
from mobilevit_sdk.spec import ModelInfo, Preprocessing

_STEM = 64  # channels


class DeepViTConfig(ViTConfig, frozen=True):
    """Everything that defines the network, beside what ViT has.

    Blocks from `re_attention_from` on mix their heads, and with `scaled_maps` take the mix times key_dim ** -0.5. With
    `conv_stem` two convolutions stand before the patches. The authors' code scales what the norms of a block read by
    `norm_scale`, which only their eps sees, and divides each branch by it.
    """

    mlp_ratio: Annotated[int, Meta(ge=1, le=16)] = 3
    re_attention_from: Annotated[int, Meta(ge=0, le=128)] = 0
    scaled_maps: bool = False
    conv_stem: bool = False
    norm_scale: Annotated[float, Meta(gt=0, le=1)] = 1.0


@register_family("deepvit", DeepViTConfig)
class DeepViT(ViT):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes], H and W of whole patches."""

    def stem(self, config: Any) -> nn.Sequential | None:
        if not config.conv_stem:
            return None
        return nn.Sequential(
            ConvNormAct(config.in_channels, _STEM, 7, stride=2, activation=nn.ReLU),
            ConvNormAct(_STEM, _STEM, 3, activation=nn.ReLU),
        )

    def block(self, config: Any, index: int, own: BlockWidths, stochastic_depth: float, **options: Any) -> nn.Module:
        factor = own.key_dim**-0.5 if config.scaled_maps else 1.0
        return super().block(
            config,
            index,
            own,
            stochastic_depth,
            norm_eps=config.norm_eps / config.norm_scale**2,
            branch_scale=1 / config.norm_scale,
            re_attention=factor if index >= config.re_attention_from else None,
        )


def _info(top1: float, *, image_size: int = 224) -> ModelInfo:
    return ModelInfo(
        paper="https://arxiv.org/abs/2103.11886",
        top1=top1,
        top1_source=f"the authors' README (ImageNet-1k at {image_size}x{image_size})",
        license="MIT (zhoudaquan/dvit_repo)",
        preprocessing=Preprocessing(
            image_size=(image_size, image_size),
            resize_size=image_size if image_size > 224 else int(image_size / 0.9),
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    )


_CONV = Fields(num_heads=12, conv_stem=True, norm_scale=0.5)


@register_model(_info(79.10))
def deepvit_patch16_224_re_attn_16b() -> DeepViTConfig:
    return DeepViTConfig(dim=384, num_heads=12, depth=16)


@register_model(_info(79.99))
def deepvit_patch16_224_re_attn_24b() -> DeepViTConfig:
    return DeepViTConfig(dim=384, num_heads=12, depth=24)


@register_model(_info(80.90))
def deepvit_patch16_224_re_attn_32b() -> DeepViTConfig:
    return DeepViTConfig(dim=384, num_heads=12, depth=32)


@register_model(_info(82.3))
def deepvit_s() -> DeepViTConfig:
    return DeepViTConfig(dim=396, depth=16, re_attention_from=11, scaled_maps=True, **_CONV)


@register_model(_info(83.1))
def deepvit_l() -> DeepViTConfig:
    return DeepViTConfig(dim=420, depth=32, re_attention_from=20, **_CONV)


@register_model(_info(84.25, image_size=384))
def deepvit_l_384() -> DeepViTConfig:
    return DeepViTConfig(dim=420, depth=32, re_attention_from=20, image_size=(384, 384), **_CONV)
