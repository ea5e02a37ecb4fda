"""MobileViTv2: Separable Self-attention for Mobile Vision Transformers.

Mehta and Rastegari, TMLR 2023, https://arxiv.org/abs/2206.02680. This is the reference form: written to be read and
trained. `mobilevit_sdk.deployment` turns it into the graph that phones run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, cast

import msgspec
import torch.nn.functional as F
from msgspec import UNSET, Meta, UnsetType
from torch import Tensor, nn

from mobilevit_sdk.layers import (
    ConvNormAct,
    InvertedResidual,
    NormReader,
    ProjectionPair,
    ResidualStream,
    SeparableTransformer,
)
from mobilevit_sdk.layers.inverted_stages import inverted_residuals
from mobilevit_sdk.layers.separable_attention import SeparableTransformerBlock
from mobilevit_sdk.models.backbone import Backbone
from mobilevit_sdk.models.mobilevit import (
    Channels,
    Count,
    Hidden,
    StageConfig,
    check_residuals,
    initialize,
    unpruned_residuals,
)
from mobilevit_sdk.models.registry import register_family, register_model
from mobilevit_sdk.spec import ModelConfig, ModelInfo, Preprocessing, Strict


class TransformerWidths(Strict, frozen=True):
    """Of a transformer block: channels of keys and values, channels within the MLP."""

    value_dim: Channels
    mlp_dim: Channels


class Widths(Strict, frozen=True):
    """All numbers that pruning may change on their own, stage by stage.

    `residuals`: whether the stage's first inverted residual has a residual. `hidden`: the channels within each inverted
    residual. `projected`: the channels at the end of a stage with attention, else 0. A transformer block that was
    removed is null.
    """

    residuals: tuple[bool, ...]
    hidden: tuple[tuple[Hidden, ...], ...]
    projected: tuple[Hidden, ...]
    transformers: tuple[tuple[TransformerWidths | None, ...], ...]


class MobileViTv2Config(ModelConfig, frozen=True):
    """Everything that defines the network. Table 4 of the paper; probabilities default to inference.

    A pruned network has `widths`. Then `expansion` and the `mlp_dim` of stages do not count; the channels of the stem
    and the stages do, and the `dim` of stages.
    """

    stages: Annotated[tuple[StageConfig, ...], Meta(min_length=1, max_length=16)]
    stem_channels: Channels
    expansion: Count = 2
    patch_size: Count = 2
    norm_eps: Annotated[float, Meta(gt=0)] = 1e-5
    dropout: float = 0.0
    attention_dropout: float = 0.0
    mlp_dropout: float = 0.0
    stochastic_depth: float = 0.0
    widths: Widths | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.widths is not UNSET:
            depths = [(stage.blocks, stage.depth if stage.dim else 0, bool(stage.dim)) for stage in self.stages]
            own = zip(self.widths.hidden, self.widths.transformers, self.widths.projected, strict=False)
            if depths != [(len(h), len(t), bool(p)) for h, t, p in own]:
                raise ValueError("the widths are not those of the stages")
            check_residuals(self.widths.residuals, self.widths.hidden)

    @property
    def stride(self) -> int:
        return 2 * math.prod(stage.stride for stage in self.stages)

    def explicit(self) -> MobileViTv2Config:
        """The same network with all its widths written out."""
        if self.widths is not UNSET:
            return self
        residuals, hidden = unpruned_residuals(self.stem_channels, self.stages, self.expansion)
        projected = tuple(stage.channels if stage.dim else 0 for stage in self.stages)
        transformers = tuple(
            (TransformerWidths(value_dim=stage.dim, mlp_dim=stage.mlp_dim),) * stage.depth if stage.dim else ()
            for stage in self.stages
        )
        widths = Widths(residuals=residuals, hidden=hidden, projected=projected, transformers=transformers)
        return msgspec.structs.replace(self, widths=widths)


class MobileViTv2Block(nn.Module):
    """Convolution for local, separable attention across patches for global features; no residual, no fusion.

    Shapes: [B, C, H, W] -> [B, out_channels, H', W'], the next multiples of the patch. The input is resized to these
    (bilinear, corners aligned) and the output stays at their size, as in ml-cvnets.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        stage: StageConfig,
        transformer: tuple[TransformerWidths | None, ...],
        config: MobileViTv2Config,
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        eps = config.norm_eps
        self.patch_size = config.patch_size
        self.local_conv = ConvNormAct(channels, channels, 3, groups=channels, norm_eps=eps)
        self.local_project = nn.Conv2d(channels, stage.dim, 1, bias=False)
        self.transformer = SeparableTransformer(
            stage.dim,
            stage.mlp_dim,
            stage.depth,
            config.patch_size,
            block_dims={i: (each.value_dim, each.mlp_dim) for i, each in enumerate(transformer) if each is not None},
            norm_eps=eps,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            mlp_dropout=config.mlp_dropout,
            stochastic_depth=stochastic_depth,
        )
        self.project = ConvNormAct(stage.dim, out_channels, 1, activation=None, norm_eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = tuple(-(-side // self.patch_size) * self.patch_size for side in (height, width))
        if padded != (height, width):
            x = F.interpolate(x, padded, mode="bilinear", align_corners=True)
        return self.project(self.transformer(self.local_project(self.local_conv(x))))

    def norm_readers(self) -> tuple[NormReader, ...]:
        return (NormReader(self.transformer.norm, self.project.conv),)

    def residual_streams(self) -> tuple[ResidualStream, ...]:
        blocks = cast("list[SeparableTransformerBlock]", list(self.transformer.blocks))
        stream = ResidualStream(
            writers=(self.local_project, *(w for block in blocks for w in (block.attention.proj, block.mlp.fc2))),
            norms=(self.transformer.norm, *(norm for block in blocks for norm in (block.norm1, block.norm2))),
        )
        return (stream,)


@register_family("mobilevitv2", MobileViTv2Config)
class MobileViTv2(Backbone):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes], any H and W of 32 or more.

    `ModelSpec.preprocessing` describes the input: for the public weights RGB in [0, 1], without mean and std.
    """

    head: nn.Linear

    def __init__(self, config: MobileViTv2Config) -> None:
        super().__init__()
        self.config = config
        eps = config.norm_eps
        self.stem = ConvNormAct(config.in_channels, config.stem_channels, 3, stride=2, norm_eps=eps)
        self.stages = nn.Sequential()
        channels = config.stem_channels
        widths = config.explicit().widths
        assert widths is not UNSET
        for i, stage in enumerate(config.stages):
            drop = config.stochastic_depth * i / max(1, len(config.stages) - 1)  # deeper stages drop more
            blocks = inverted_residuals(
                channels,
                stage.channels,
                widths.hidden[i],
                stride=stage.stride,
                residual=widths.residuals[i],
                stochastic_depth=drop,
                norm_eps=eps,
            )
            channels = stage.channels
            if stage.dim:
                projected = widths.projected[i]
                block = MobileViTv2Block(channels, projected, stage, widths.transformers[i], config, drop)
                blocks.add_module(str(stage.blocks), block)
                channels = projected
            self.stages.append(blocks)
        self.head = nn.Linear(channels, config.num_classes)
        self.apply(initialize)

    def feature_map(self, x: Tensor) -> Tensor:
        return self.stages(self.stem(x))

    def input_convolution(self) -> nn.Conv2d:
        return self.stem.conv

    def projection_pairs(self) -> Iterator[ProjectionPair]:
        blocks = [block for stage in self.stages for block in stage]  # type: ignore[attr-defined]
        for block, following in pairwise(blocks):
            reads_once = isinstance(following, InvertedResidual) and not following.has_residual
            if _ends_in_projection(block) and reads_once:
                yield ProjectionPair(block.project.conv, following.expand.conv)
        if _ends_in_projection(blocks[-1]) and self.output == "logits":
            yield ProjectionPair(blocks[-1].project.conv, self.head)


def _ends_in_projection(block: InvertedResidual | MobileViTv2Block) -> bool:
    return isinstance(block, MobileViTv2Block) or not block.has_residual


def _config(width: float) -> MobileViTv2Config:
    """The network of width 1 with all channels times `width`; five stages with strides 1, 2, 2, 2, 2.

    The releases round channels to multiples of 8 or 16; at the published widths they are such multiples already.
    """

    def scaled(channels: int) -> int:
        return int(channels * width)

    plain = (
        StageConfig(channels=scaled(64), blocks=1, stride=1),
        StageConfig(channels=scaled(128), blocks=2, stride=2),
    )
    mixed = (
        StageConfig(channels=scaled(2 * d), blocks=1, stride=2, dim=scaled(d), mlp_dim=2 * scaled(d), depth=n)
        for d, n in ((128, 2), (192, 4), (256, 3))
    )
    return MobileViTv2Config(stages=plain + tuple(mixed), stem_channels=scaled(32))


def _info(top1: float) -> ModelInfo:
    return ModelInfo(
        paper="https://arxiv.org/abs/2206.02680",
        top1=top1,
        top1_source="model zoo of ml-cvnets v0.2 (ImageNet-1k, 256x256)",
        license="Apple sample code (ml-cvnets)",
        # The public weights take [0, 1] without mean or std, and RGB: ml-cvnets reads with PIL from v0.2 on.
        preprocessing=Preprocessing(image_size=(256, 256), resize_size=288, interpolation="bicubic"),
    )


@register_model(_info(top1=70.2))
def mobilevitv2_050() -> MobileViTv2Config:
    return _config(0.5)


@register_model(_info(top1=75.6))
def mobilevitv2_075() -> MobileViTv2Config:
    return _config(0.75)


@register_model(_info(top1=78.1))
def mobilevitv2_100() -> MobileViTv2Config:
    return _config(1.0)


@register_model(_info(top1=79.7))
def mobilevitv2_125() -> MobileViTv2Config:
    return _config(1.25)


@register_model(_info(top1=80.4))
def mobilevitv2_150() -> MobileViTv2Config:
    return _config(1.5)


@register_model(_info(top1=80.8))
def mobilevitv2_175() -> MobileViTv2Config:
    return _config(1.75)


@register_model(_info(top1=81.2))
def mobilevitv2_200() -> MobileViTv2Config:
    return _config(2.0)
