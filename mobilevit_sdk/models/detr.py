"""DETR: object detection as a set of boxes, without anchors or non-maximum suppression.

Carion et al., End-to-End Object Detection with Transformers, ECCV 2020, https://arxiv.org/abs/2005.12872. This is the
reference form: written to be read and trained. `mobilevit_sdk.deployment` turns it into the graph that phones run.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from torch import Tensor, nn

from mobilevit_sdk.layers import CrossAttention, DecoderLayer, EncoderLayer, ResNet, SetTransformer
from mobilevit_sdk.models.block_widths import AttentionWidths, BlockWidths, Width
from mobilevit_sdk.models.registry import register_family, register_model
from mobilevit_sdk.spec import ModelConfig, ModelInfo, Preprocessing, Strict

Count = Annotated[int, Meta(ge=1, le=128)]
Channels = Annotated[int, Meta(ge=4, le=16384)]

_EXPANSION = 4  # of a bottleneck: how many times more channels it writes than it has within


class BottleneckWidths(Strict, frozen=True):
    """Channels that the first two convolutions of a bottleneck write."""

    reduce: Width
    conv: Width


class DecoderWidths(Strict, frozen=True):
    """Of a decoder layer: its attention between objects and to the image, channels within the MLP."""

    attention: AttentionWidths
    cross_attention: AttentionWidths
    mlp_dim: Width


class Widths(Strict, frozen=True):
    """All numbers that pruning may change on their own; null: removed.

    `stages` are the channels of the stem's map and of each stage's, `box_head` those between the layers of that head.
    """

    stages: tuple[Width, Width, Width, Width, Width]
    bottlenecks: tuple[tuple[BottleneckWidths | None, ...], ...]
    encoder: tuple[BlockWidths | None, ...]
    decoder: tuple[DecoderWidths | None, ...]
    box_head: tuple[Width, Width]


class DETRConfig(ModelConfig, frozen=True):
    """Everything that defines the network. Sections 4 and A.4 of the paper; probabilities default to inference.

    `num_classes` does not count "no object", the last row of the class head. `dilated` is the paper's DC5: the last
    stage of the backbone keeps its resolution. With `frozen_norm`, BatchNorm keeps what the backbone was pretrained
    with; a backbone that starts from nothing trains it. A pruned network has `widths`. Then the depths still count, and
    `dim`, which the positions have as well, but not `num_heads`, `mlp_dim` and `backbone_width`.
    """

    num_classes: int = 91
    num_queries: Annotated[int, Meta(ge=1, le=4096)] = 100
    dim: Channels = 256
    num_heads: Count = 8
    mlp_dim: Channels = 2048
    encoder_layers: Count = 6
    decoder_layers: Count = 6
    backbone_width: Channels = 64
    backbone_depths: tuple[Count, Count, Count, Count] = (3, 4, 6, 3)
    dilated: bool = False
    frozen_norm: bool = True
    dropout: float = 0.0
    widths: Widths | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.dim % 4:
            raise ValueError(f"dim {self.dim} is no multiple of 4: two axes, a sine and a cosine for each")
        if self.widths is UNSET:
            return
        layers = (*self.widths.bottlenecks, self.widths.encoder, self.widths.decoder)
        if tuple(map(len, layers)) != (*self.backbone_depths, self.encoder_layers, self.decoder_layers):
            raise ValueError("the widths are not those of the layers")
        if any(each[0] is None for each in layers):
            raise ValueError("each stage, the encoder and the decoder need their first layer")

    def explicit(self) -> DETRConfig:
        """The same network with all its widths written out."""
        if self.widths is not UNSET:
            return self
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}")
        head_dim, mlp_dim = self.dim // self.num_heads, self.mlp_dim
        attention = AttentionWidths(num_heads=self.num_heads, key_dim=head_dim, value_dim=head_dim)
        encoder = BlockWidths(num_heads=self.num_heads, key_dim=head_dim, value_dim=head_dim, mlp_dim=mlp_dim)
        decoder = DecoderWidths(attention=attention, cross_attention=attention, mlp_dim=mlp_dim)
        one, two, three, four = (self.backbone_width * 2**stage for stage in range(4))
        within = (BottleneckWidths(reduce=each, conv=each) for each in (one, two, three, four))
        widths = Widths(
            stages=(one, _EXPANSION * one, _EXPANSION * two, _EXPANSION * three, _EXPANSION * four),
            bottlenecks=tuple((each,) * depth for each, depth in zip(within, self.backbone_depths, strict=True)),
            encoder=(encoder,) * self.encoder_layers,
            decoder=(decoder,) * self.decoder_layers,
            box_head=(self.dim, self.dim),
        )
        return msgspec.structs.replace(self, widths=widths)

    @property
    def stride(self) -> int:
        return 16 if self.dilated else 32


@register_family("detr", DETRConfig)
class DETR(nn.Module):
    """Images to class scores and boxes of `num_queries` objects.

    Shapes: [B, in_channels, H, W] -> logits [B, num_queries, num_classes + 1], the last class for no object, and boxes
    [B, num_queries, 4], center x, center y, width and height as shares of the image. `ModelSpec.preprocessing`
    describes the input. Every image fills the input: none is padded, so there is no mask.
    """

    scores = False  # of the image: it answers with those of objects

    def __init__(self, config: DETRConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.explicit().widths
        assert widths is not UNSET
        self.backbone = ResNet(
            config.in_channels,
            widths.stages,
            [[(each.reduce, each.conv) if each else None for each in stage] for stage in widths.bottlenecks],
            dilated=config.dilated,
            frozen_norm=config.frozen_norm,
        )
        self.projection = nn.Conv2d(self.backbone.channels, config.dim, 1)
        encoder = {
            i: EncoderLayer(_attention(config, own), own.mlp_dim, dropout=config.dropout)
            for i, own in enumerate(widths.encoder)
            if own is not None
        }
        decoder = {
            i: DecoderLayer(
                _attention(config, own.attention),
                _attention(config, own.cross_attention),
                own.mlp_dim,
                dropout=config.dropout,
            )
            for i, own in enumerate(widths.decoder)
            if own is not None
        }
        self.transformer = SetTransformer(config.dim, config.num_queries, _numbered(encoder), _numbered(decoder))
        self.class_head = nn.Linear(config.dim, config.num_classes + 1)
        first, second = widths.box_head
        self.box_head = nn.Sequential(
            nn.Linear(config.dim, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Linear(second, 4),
            nn.Sigmoid(),
        )
        for parameter in self.transformer.parameters():
            if parameter.dim() > 1 and parameter is not self.transformer.queries.weight:
                nn.init.xavier_uniform_(parameter)  # as the authors train

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(self.transformer(self.projection(self.backbone(x))))

    def by_layer(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What `forward` would answer after each decoder layer; the last is its answer.

        The loss reads all of them in training (auxiliary losses, section 3.2 of the paper).
        """
        return [self.heads(objects) for objects in self.transformer.by_layer(self.projection(self.backbone(x)))]

    def heads(self, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and boxes of objects, [B, num_queries, dim]."""
        return self.class_head(objects), self.box_head(objects)

    @property
    def pretrained(self) -> nn.Module | None:
        """The backbone, unless it learns its norms: then it has begun from nothing."""
        return self.backbone if self.config.frozen_norm else None

    def freeze_pretrained(self) -> None:
        """Stem and first stage, as the authors train; not those that start from nothing, or of which channels went."""
        if self.config.frozen_norm and self.config.widths is UNSET:
            for layer in (self.backbone.stem, self.backbone.stages[0]):
                layer.requires_grad_(False)

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the backbone's map, for an image of so many pixels."""
        stride = self.config.stride
        return math.ceil(height / stride), math.ceil(width / stride)

    def input_convolution(self) -> nn.Conv2d:
        return self.backbone.stem.conv


def _attention(config: DETRConfig, own: AttentionWidths | BlockWidths) -> CrossAttention:
    return CrossAttention(config.dim, own.num_heads, own.key_dim, own.value_dim, dropout=config.dropout)


def _numbered(layers: Mapping[int, nn.Module]) -> nn.Sequential:
    """The layers by their numbers, which have gaps where layers were removed."""
    return nn.Sequential(OrderedDict((str(i), layer) for i, layer in layers.items()))


_R101 = (3, 4, 23, 3)


def _info(box_ap: float) -> ModelInfo:
    """The authors bring the shorter side to 800 pixels, 1333 at most; boxes are shares, so that a square does as well.

    The networks take any size. Phones get 640x640, unless another is asked for.
    """
    return ModelInfo(
        paper="https://arxiv.org/abs/2005.12872",
        box_ap=box_ap,
        top1_source="facebookresearch/detr (COCO val5k, shorter side 800)",
        license="Apache-2.0 (facebookresearch/detr)",
        preprocessing=Preprocessing(
            image_size=(640, 640),
            resize_size=640,
            resize_mode="squash",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
    )


@register_model(_info(42.0))
def detr_resnet50() -> DETRConfig:
    return DETRConfig()


@register_model(_info(43.3))
def detr_resnet50_dc5() -> DETRConfig:
    return DETRConfig(dilated=True)


@register_model(_info(43.5))
def detr_resnet101() -> DETRConfig:
    return DETRConfig(backbone_depths=_R101)


@register_model(_info(44.9))
def detr_resnet101_dc5() -> DETRConfig:
    return DETRConfig(backbone_depths=_R101, dilated=True)
