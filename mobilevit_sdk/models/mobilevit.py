"""MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer.

Mehta and Rastegari, ICLR 2022, https://arxiv.org/abs/2110.02178. This is the reference form: written to be read and
trained. `mobilevit_sdk.deployment` turns it into the graph that phones run.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from mobilevit_sdk.layers import (
    ConvNormAct,
    Fold,
    InvertedResidual,
    NormReader,
    ResidualStream,
    TransformerBlock,
    Unfold,
)
from mobilevit_sdk.registry import register_family, register_model
from mobilevit_sdk.spec import ModelConfig, ModelInfo, Preprocessing, Strict

# Configs are read from files of strangers: building the network of any that passes must end, and it must run.
Width = Annotated[int, Meta(ge=1, le=16384)]
Count = Annotated[int, Meta(ge=1, le=64)]


class StageConfig(Strict, frozen=True):
    """One resolution: inverted residuals (the first has the stride), then a MobileViT block where `dim` is given."""

    channels: Width
    blocks: Count
    stride: Annotated[int, Meta(ge=1, le=2)]
    dim: Annotated[int, Meta(ge=0, le=16384)] = 0
    mlp_dim: Annotated[int, Meta(ge=0, le=16384)] = 0
    depth: Annotated[int, Meta(ge=0, le=64)] = 0


class MobileViTConfig(ModelConfig, frozen=True):
    """Everything that defines the network. Figure 1 and table 4 of the paper; probabilities default to inference."""

    stages: Annotated[tuple[StageConfig, ...], Meta(min_length=1, max_length=16)]
    expansion: Count
    final_channels: Width
    stem_channels: Width = 16
    num_heads: Count = 4
    patch_size: Count = 2
    norm_eps: Annotated[float, Meta(gt=0)] = 1e-5
    head_dropout: float = 0.0
    dropout: float = 0.0
    attention_dropout: float = 0.0
    mlp_dropout: float = 0.0
    stochastic_depth: float = 0.0

    @property
    def stride(self) -> int:
        return 2 * math.prod(stage.stride for stage in self.stages)


class MobileViTBlock(nn.Module):
    """Convolution for the near, attention across patches for the far, fused with the input (figure 1b).

    Shapes: [B, C, H, W] -> [B, C, H, W]. Where H or W is no multiple of the patch, the local representation is resized
    up to the next multiple and back after attention (bilinear, half-pixel centres), as in ml-cvnets.
    """

    def __init__(self, channels: int, stage: StageConfig, config: MobileViTConfig, stochastic_depth: float) -> None:
        super().__init__()
        eps = config.norm_eps
        self.patch_size = config.patch_size
        self.local_conv = ConvNormAct(channels, channels, 3, norm_eps=eps)
        self.local_project = nn.Conv2d(channels, stage.dim, 1, bias=False)
        self.unfold = Unfold(config.patch_size)
        self.transformer = nn.Sequential(
            *(
                TransformerBlock(
                    stage.dim,
                    config.num_heads,
                    stage.mlp_dim,
                    norm_eps=eps,
                    dropout=config.dropout,
                    attention_dropout=config.attention_dropout,
                    mlp_dropout=config.mlp_dropout,
                    stochastic_depth=stochastic_depth,
                    stochastic_depth_groups=config.patch_size**2,
                )
                for _ in range(stage.depth)
            )
        )
        self.norm = nn.LayerNorm(stage.dim, eps=eps)
        self.fold = Fold(config.patch_size)
        self.project = ConvNormAct(stage.dim, channels, 1, norm_eps=eps)
        self.fuse = ConvNormAct(2 * channels, channels, 3, norm_eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        local = self.local_project(self.local_conv(x))
        height, width = local.shape[-2:]
        padded = tuple(-(-side // self.patch_size) * self.patch_size for side in (height, width))
        if padded != (height, width):
            local = F.interpolate(local, padded, mode="bilinear", align_corners=False)
        tokens = self.norm(self.transformer(self.unfold(local)))
        y = self.fold(tokens, local.shape)
        if padded != (height, width):
            y = F.interpolate(y, (height, width), mode="bilinear", align_corners=False)
        return self.fuse(torch.cat((x, self.project(y)), dim=1))

    def norm_readers(self) -> tuple[NormReader, ...]:
        return (NormReader(self.norm, self.project.conv),)

    def residual_stream(self) -> ResidualStream:
        blocks = [block for block in self.transformer if isinstance(block, TransformerBlock)]
        return ResidualStream(
            writers=(self.local_project, *(w for block in blocks for w in (block.attention.proj, block.mlp.fc2))),
            norms=(self.norm, *(norm for block in blocks for norm in (block.norm1, block.norm2))),
        )


@register_family("mobilevit", MobileViTConfig)
class MobileViT(nn.Module):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes], any H and W of 32 or more.

    The input is what `ModelSpec.preprocessing` describes: for the public weights RGB or BGR in [0, 1], no mean or std.
    """

    def __init__(self, config: MobileViTConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = ConvNormAct(config.in_channels, config.stem_channels, 3, stride=2, norm_eps=config.norm_eps)
        self.stages = nn.Sequential()
        channels = config.stem_channels
        for i, stage in enumerate(config.stages):
            drop = config.stochastic_depth * i / max(1, len(config.stages) - 1)  # deeper stages drop more
            blocks: list[nn.Module] = []
            for j in range(stage.blocks):
                stride = stage.stride if j == 0 else 1
                blocks.append(
                    InvertedResidual(
                        channels,
                        stage.channels,
                        stride=stride,
                        expansion=config.expansion,
                        stochastic_depth=drop,
                        norm_eps=config.norm_eps,
                    )
                )
                channels = stage.channels
            if stage.dim:
                blocks.append(MobileViTBlock(channels, stage, config, drop))
            self.stages.append(nn.Sequential(*blocks))
        self.final_conv = ConvNormAct(channels, config.final_channels, 1, norm_eps=config.norm_eps)
        self.dropout = nn.Dropout(config.head_dropout)
        self.head = nn.Linear(config.final_channels, config.num_classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        x = self.final_conv(self.stages(self.stem(x)))
        x = x.mean((2, 3), keepdim=True).flatten(1)  # [B, C, H, W] -> [B, C]
        return self.head(self.dropout(x))

    def input_convolution(self) -> nn.Conv2d:
        return self.stem.conv


def initialise(module: nn.Module) -> None:
    """He initialisation for convolutions, truncated normal (std 0.02) for linears, as the authors train."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def _stages(channels: tuple[int, ...], dims: tuple[int, ...]) -> tuple[StageConfig, ...]:
    """Five stages with strides 1, 2, 2, 2, 2; the last three carry 2, 4 and 3 transformer layers (table 4)."""
    plain = (
        StageConfig(channels=channels[0], blocks=1, stride=1),
        StageConfig(channels=channels[1], blocks=3, stride=2),
    )
    mixed = (
        StageConfig(channels=c, blocks=1, stride=2, dim=d, mlp_dim=2 * d, depth=n)
        for c, d, n in zip(channels[2:], dims, (2, 4, 3), strict=True)
    )
    return plain + tuple(mixed)


def _info(top1: float) -> ModelInfo:
    return ModelInfo(
        paper="https://arxiv.org/abs/2110.02178",
        top1=top1,
        top1_source="MobileViT paper, table 1 and figure 6 (ImageNet-1k, 256x256)",
        licence="Apple sample code (ml-cvnets)",
        # The public weights take [0, 1] without mean or std. timm's take RGB; other layouts say what theirs take.
        preprocessing=Preprocessing(image_size=(256, 256), resize_size=288, interpolation="bilinear"),
    )


@register_model(_info(top1=69.0))
def mobilevit_xxs() -> MobileViTConfig:
    return MobileViTConfig(stages=_stages((16, 24, 48, 64, 80), (64, 80, 96)), expansion=2, final_channels=320)


@register_model(_info(top1=74.7))
def mobilevit_xs() -> MobileViTConfig:
    return MobileViTConfig(stages=_stages((32, 48, 64, 80, 96), (96, 120, 144)), expansion=4, final_channels=384)


@register_model(_info(top1=78.3))
def mobilevit_s() -> MobileViTConfig:
    return MobileViTConfig(stages=_stages((32, 64, 96, 128, 160), (144, 192, 240)), expansion=4, final_channels=640)
