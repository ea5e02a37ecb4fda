"""MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer.

Mehta and Rastegari, ICLR 2022, https://arxiv.org/abs/2110.02178. This is the reference form: written to be read and
trained. `mobilevit_sdk.deployment` turns it into the graph that phones run.
"""

from __future__ import annotations

import math
from typing import Annotated, cast

import msgspec
import torch
import torch.nn.functional as F
from msgspec import UNSET, Meta, UnsetType
from torch import Tensor, nn

from mobilevit_sdk.layers import ConvNormAct, Fold, NormReader, ResidualStream, TransformerBlock, Unfold
from mobilevit_sdk.layers.inverted_stages import inverted_residuals
from mobilevit_sdk.models.backbone import Backbone
from mobilevit_sdk.models.registry import register_family, register_model
from mobilevit_sdk.spec import ModelConfig, ModelInfo, Preprocessing, Strict

# Configs come from untrusted files: a network of any config within these limits must build and run.
Channels = Annotated[int, Meta(ge=1, le=16384)]
Count = Annotated[int, Meta(ge=1, le=64)]
Hidden = Annotated[int, Meta(ge=0, le=1_048_576)]  # 0: the block was removed


class StageConfig(Strict, frozen=True):
    """One resolution: inverted residuals (the first has the stride), then a MobileViT block where `dim` is given."""

    channels: Channels
    blocks: Count
    stride: Annotated[int, Meta(ge=1, le=2)]
    dim: Annotated[int, Meta(ge=0, le=16384)] = 0
    mlp_dim: Annotated[int, Meta(ge=0, le=16384)] = 0
    depth: Annotated[int, Meta(ge=0, le=64)] = 0


class TransformerWidths(Strict, frozen=True):
    """Of a transformer block: heads, dimensions of each head, channels within the MLP."""

    num_heads: Count
    key_dim: Channels
    value_dim: Channels
    mlp_dim: Channels


class FusionWidths(Strict, frozen=True):
    """Channels around a stage's transformer: of the local convolution, from attention into fusion, and of fusion."""

    local: Channels
    attended: Channels
    fused: Channels


class Widths(Strict, frozen=True):
    """All numbers that pruning may change on their own, stage by stage.

    `residuals`: whether the stage's first inverted residual has a residual. `hidden`: the channels within each inverted
    residual. An entry of `fusions` is null in a stage without attention, a transformer block that was removed is null.
    """

    residuals: tuple[bool, ...]
    hidden: tuple[tuple[Hidden, ...], ...]
    fusions: tuple[FusionWidths | None, ...]
    transformers: tuple[tuple[TransformerWidths | None, ...], ...]


class MobileViTConfig(ModelConfig, frozen=True):
    """Everything that defines the network. Figure 1 and table 4 of the paper; probabilities default to inference.

    A pruned network has `widths`. Then `expansion`, `num_heads` and the `mlp_dim` of stages do not count; the channels
    of the stem, the stages and the final convolution do, and the `dim` of stages.
    """

    stages: Annotated[tuple[StageConfig, ...], Meta(min_length=1, max_length=16)]
    expansion: Count
    final_channels: Annotated[int, Meta(ge=0, le=16384)]  # 0: no final convolution, as in encoders that others read
    stem_channels: Channels = 16
    num_heads: Count = 4
    patch_size: Count = 2
    norm_eps: Annotated[float, Meta(gt=0)] = 1e-5
    head_dropout: float = 0.0
    dropout: float = 0.0
    attention_dropout: float = 0.0
    mlp_dropout: float = 0.0
    stochastic_depth: float = 0.0
    widths: Widths | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.widths is not UNSET:
            depths = [(stage.blocks, stage.depth if stage.dim else 0, bool(stage.dim)) for stage in self.stages]
            own = zip(self.widths.hidden, self.widths.transformers, self.widths.fusions, strict=False)
            if depths != [(len(h), len(t), f is not None) for h, t, f in own]:
                raise ValueError("the widths are not those of the stages")
            check_residuals(self.widths.residuals, self.widths.hidden)

    @property
    def stride(self) -> int:
        return 2 * math.prod(stage.stride for stage in self.stages)

    def explicit(self) -> MobileViTConfig:
        """The same network with all its widths written out."""
        if self.widths is not UNSET:
            return self
        residuals, hidden = unpruned_residuals(self.stem_channels, self.stages, self.expansion)
        attending = [stage for stage in self.stages if stage.dim]
        undivided = [stage.dim for stage in attending if stage.depth and stage.dim % self.num_heads]
        if undivided:
            raise ValueError(f"dim {undivided[0]} is not divisible by num_heads {self.num_heads}")
        fusions = tuple(
            FusionWidths(local=stage.channels, attended=stage.channels, fused=stage.channels) if stage.dim else None
            for stage in self.stages
        )
        transformers = tuple((self._transformer(stage),) * stage.depth if stage.dim else () for stage in self.stages)
        widths = Widths(residuals=residuals, hidden=hidden, fusions=fusions, transformers=transformers)
        return msgspec.structs.replace(self, widths=widths)

    def _transformer(self, stage: StageConfig) -> TransformerWidths:
        head_dim = stage.dim // self.num_heads
        return TransformerWidths(num_heads=self.num_heads, key_dim=head_dim, value_dim=head_dim, mlp_dim=stage.mlp_dim)


def unpruned_residuals(
    channels: int, stages: tuple[StageConfig, ...], expansion: int
) -> tuple[tuple[bool, ...], tuple[tuple[int, ...], ...]]:
    """Whether each stage's first inverted residual has a residual, and the channels within all of them."""
    residuals, hidden = list[bool](), list[tuple[int, ...]]()
    for stage in stages:
        residuals.append(stage.stride == 1 and channels == stage.channels)
        hidden.append((expansion * channels, *(expansion * stage.channels,) * (stage.blocks - 1)))
        channels = stage.channels
    return tuple(residuals), tuple(hidden)


def check_residuals(residuals: tuple[bool, ...], hidden: tuple[tuple[int, ...], ...]) -> None:
    """Raise ValueError where the two differ in stages, or where a stage's first inverted residual was removed."""
    if len(residuals) != len(hidden) or any(not each[0] for each in hidden):
        raise ValueError("each stage needs its first inverted residual, and whether that has a residual")


class MobileViTBlock(nn.Module):
    """Convolution for local, attention across patches for global features, fused with the input (figure 1b).

    Shapes: [B, channels, H, W] -> [B, fusion.fused, H, W]. Where H or W is not a multiple of the patch, the local
    representation is resized up to the next multiple and back after attention (bilinear, half-pixel centers), as in
    ml-cvnets.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        fusion: FusionWidths,
        transformer: tuple[TransformerWidths | None, ...],
        config: MobileViTConfig,
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        eps = config.norm_eps
        self.patch_size = config.patch_size
        self.local_conv = ConvNormAct(channels, fusion.local, 3, norm_eps=eps)
        self.local_project = nn.Conv2d(fusion.local, dim, 1, bias=False)
        self.unfold = Unfold(config.patch_size)
        self.transformer = nn.Sequential()
        for i, block in enumerate(transformer):
            if block is not None:  # removed blocks leave gaps in the numbering
                layer = TransformerBlock(
                    dim,
                    block.num_heads,
                    block.mlp_dim,
                    key_dim=block.key_dim,
                    value_dim=block.value_dim,
                    norm_eps=eps,
                    dropout=config.dropout,
                    attention_dropout=config.attention_dropout,
                    mlp_dropout=config.mlp_dropout,
                    stochastic_depth=stochastic_depth,
                    stochastic_depth_groups=config.patch_size**2,
                )
                self.transformer.add_module(str(i), layer)
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.fold = Fold(config.patch_size)
        self.project = ConvNormAct(dim, fusion.attended, 1, norm_eps=eps)
        self.fuse = ConvNormAct(channels + fusion.attended, fusion.fused, 3, norm_eps=eps)

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

    def residual_streams(self) -> tuple[ResidualStream, ...]:
        blocks = cast("list[TransformerBlock]", list(self.transformer))
        stream = ResidualStream(
            writers=(self.local_project, *(w for block in blocks for w in (block.attention.proj, block.mlp.fc2))),
            norms=(self.norm, *(norm for block in blocks for norm in (block.norm1, block.norm2))),
        )
        return (stream,)


@register_family("mobilevit", MobileViTConfig)
class MobileViT(Backbone):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes], any H and W of 32 or more.

    `ModelSpec.preprocessing` describes the input: for the public weights RGB or BGR in [0, 1], without mean and std.
    """

    head: nn.Linear

    def __init__(self, config: MobileViTConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = ConvNormAct(config.in_channels, config.stem_channels, 3, stride=2, norm_eps=config.norm_eps)
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
                norm_eps=config.norm_eps,
            )
            channels, fusion = stage.channels, widths.fusions[i]
            if fusion is not None:
                block = MobileViTBlock(channels, stage.dim, fusion, widths.transformers[i], config, drop)
                blocks.add_module(str(stage.blocks), block)
                channels = fusion.fused
            self.stages.append(blocks)
        self.final_conv = None
        if config.final_channels:
            self.final_conv = ConvNormAct(channels, config.final_channels, 1, norm_eps=config.norm_eps)
            channels = config.final_channels
        self.dropout = nn.Dropout(config.head_dropout)
        self.head = nn.Linear(channels, config.num_classes)
        self.apply(initialize)

    def feature_map(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x))
        return x if self.final_conv is None else self.final_conv(x)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(x))

    def input_convolution(self) -> nn.Conv2d:
        return self.stem.conv


def initialize(module: nn.Module) -> None:
    """He initialization for convolutions, truncated normal (std 0.02) for linears, as the authors train."""
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
        license="Apple sample code (ml-cvnets)",
        # The public weights take [0, 1] without mean or std. timm's take RGB; other key maps say what theirs take.
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
