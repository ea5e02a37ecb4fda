"""Vision transformers on patches, and their data-efficient training.

ViT: Dosovitskiy et al., ICLR 2021, https://arxiv.org/abs/2010.11929; DeiT: Touvron et al., ICML 2021,
https://arxiv.org/abs/2012.12877; DeiT III: Touvron et al., ECCV 2022, https://arxiv.org/abs/2204.07118. This is the
reference form: written to be read and trained. `mobilevit_sdk.deployment` turns it into the graph that phones run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, cast

import msgspec
import torch
from msgspec import UNSET, Meta, UnsetType
from torch import Tensor, nn

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import (
    FirstTokens,
    NormReader,
    PatchMap,
    PatchTokens,
    PreLogits,
    ResidualStream,
    TaskMemory,
    TokenClassifier,
    TokenMean,
    TransformerBlock,
    run_with_tasks,
)
from mobilevit_sdk.models.backbone import Backbone
from mobilevit_sdk.models.block_widths import BlockWidths
from mobilevit_sdk.models.registry import register_family, register_model
from mobilevit_sdk.spec import Features, MemoryTask, ModelConfig, ModelInfo, Preprocessing, Strict

Channels = Annotated[int, Meta(ge=2, le=16384)]
Count = Annotated[int, Meta(ge=1, le=128)]
Side = Annotated[int, Meta(ge=1, le=4096)]


class Widths(Strict, frozen=True):
    """All numbers that pruning may change on their own, but those that stand in the config itself."""

    blocks: tuple[BlockWidths | None, ...]  # null: removed


class ViTConfig(ModelConfig, frozen=True):
    """Everything that defines the network. Table 1 of both papers; probabilities default to inference.

    `image_size` (height, width) is the one whose patches the positions are for. `distillation_token` stands behind the
    class token, and `distillation_head` reads it; without the head, the token is there and not read. `class_position`:
    whether the tokens before the patches have positions of their own. `representation_dim`: of a linear layer and tanh
    before the classifier, which networks trained on ImageNet-21k had ("pre-logits"); none where it is not there. A
    pruned network has `widths`. Then `dim` still counts, but not `num_heads` and `mlp_ratio`.
    """

    dim: Channels
    num_heads: Count
    depth: Count = 12
    mlp_ratio: Annotated[int, Meta(ge=1, le=16)] = 4
    patch_size: Side = 16
    image_size: tuple[Side, Side] = (224, 224)
    distillation_token: bool = False
    distillation_head: bool = False
    class_position: bool = True
    layer_scale: bool = False
    norm_eps: Annotated[float, Meta(gt=0, le=1)] = 1e-6
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    representation_dim: Annotated[int, Meta(ge=1, le=16384)] | UnsetType = UNSET
    widths: Widths | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.widths is not UNSET and len(self.widths.blocks) != self.depth:
            raise ValueError("the widths are not those of the blocks")
        if self.distillation_head > self.distillation_token:
            raise ValueError("a distillation_head reads a distillation_token")
        if self.distillation_head and self.representation_dim is not UNSET:
            raise ValueError("a distillation_head reads its token: representation_dim is of networks without one")
        self.check_image_size(*self.image_size)

    def explicit(self) -> ViTConfig:
        """The same network with all its widths written out."""
        if self.widths is not UNSET:
            return self
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}")
        head_dim = self.dim // self.num_heads
        block = BlockWidths(
            num_heads=self.num_heads, key_dim=head_dim, value_dim=head_dim, mlp_dim=self.dim * self.mlp_ratio
        )
        return msgspec.structs.replace(self, widths=Widths(blocks=(block,) * self.depth))

    @property
    def stride(self) -> int:
        return self.patch_size

    @property
    def grid(self) -> tuple[int, int]:
        """How many patches the image has, in rows and columns."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    def check_image_size(self, height: int, width: int) -> None:
        super().check_image_size(height, width)
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"images of {height}x{width} are not whole patches of {self.patch_size} pixels")

    def at_image_size(self, height: int, width: int) -> ViTConfig:
        """The config for images of another size, in pixels: the grid of positions is theirs."""
        self.check_image_size(height, width)
        return msgspec.structs.replace(self, image_size=(height, width))


@register_family("vit", ViTConfig)
class ViT(Backbone):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes], H and W of whole patches.

    With a distillation head, in training mode, a pair of such: of the class head and of the distillation head.
    `ModelSpec.preprocessing` describes the input: public weights of ViT have another mean and std than those of DeiT.
    """

    head: nn.Module

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.explicit().widths
        assert widths is not UNSET
        sizes = (config.in_channels, config.dim, config.patch_size, config.grid)
        count, stem = 1 + config.distillation_token, self.stem(config)
        self.tokens = PatchTokens(*sizes, prefix=count, prefix_positions=config.class_position, stem=stem)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential()
        rates = torch.linspace(0, config.stochastic_depth, config.depth, device="cpu")  # deeper blocks drop more
        for i, (own, p) in enumerate(zip(widths.blocks, rates.tolist(), strict=True)):
            if own is not None:  # removed blocks leave gaps in the numbering
                self.blocks.add_module(str(i), self.block(config, i, own, p))
        self.first = FirstTokens(1 + config.distillation_head)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.pre_logits: PreLogits | None = None
        read = config.dim
        if config.representation_dim is not UNSET:
            read = config.representation_dim
            self.pre_logits = PreLogits(config.dim, read)
        self.head = TokenClassifier(read, config.num_classes, distilled=config.distillation_head)
        self.tasks: nn.ModuleList | None = None  # that learned memory on these weights: `layers.memory`
        self.apply(_initialize)

    def stem(self, config: Any) -> nn.Sequential | None:
        """The convolutions before the patches, where a family has any."""
        return None

    def block(self, config: Any, index: int, own: BlockWidths, stochastic_depth: float, **options: Any) -> nn.Module:
        """One block; `options` are those of a family that has more."""
        return transformer_block(config, own, stochastic_depth, **options)

    def run_blocks(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens through all blocks; `grid` is that of the patches. Shapes: [B, N, dim] -> [B, N, dim]."""
        return cast("Tensor", self.blocks(x))

    def return_features(self, kind: Features, *, scores: bool = False) -> None:
        """Pooled: the mean of the tokens that the classifier reads, [B, dim]; map: the patches' tokens, [B, dim, h, w].

        Both are normalized, as timm's with `num_classes=0` and of `forward_features`. With pre-logits the classifier
        reads those, [B, representation_dim], which Google's code returns without classes.
        """
        self.output = kind
        self.head = TokenMean() if kind == "pooled" else PatchMap()
        if kind == "map":
            self.first = nn.Identity()  # type: ignore[assignment]
            self.pre_logits = None

    def add_tasks(self, tasks: Sequence[MemoryTask]) -> None:
        """Answer these tasks, too, from now on: a tuple of the network's own scores and those of each task."""
        if self.pre_logits is not None:
            raise RequestError("a task learns on a network whose classifier reads its norm, not one with pre-logits")
        sizes = self.config.dim, len(self.blocks)
        self.tasks = nn.ModuleList(
            TaskMemory(task.name, task.num_classes, task.cells, *sizes, extends=task.extends) for task in tasks
        )

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        (height, width), patch = x.shape[2:], self.config.patch_size
        x = self.dropout(self.tokens(x))
        answers: tuple[Tensor, ...] = ()
        if self.tasks:
            tasks = cast("list[TaskMemory]", list(self.tasks))
            x, tokens = run_with_tasks(cast("list[TransformerBlock]", list(self.blocks)), x, tasks)
            answers = tuple(task.head(self.norm(token)[:, 0]) for task, token in zip(tasks, tokens, strict=True))
        else:
            x = self.run_blocks(x, (height // patch, width // patch))
        x = self.norm(self.first(x))
        x = x if self.pre_logits is None else self.pre_logits(x)
        answer: Tensor | tuple[Tensor, ...]
        answer = self.head(x, (height // patch, width // patch)) if self.output == "map" else self.head(x)
        own = answer if isinstance(answer, tuple) else (answer,)
        return (*own, *answers) if answers else answer

    def input_convolution(self) -> nn.Conv2d:
        return self.tokens.input_convolution()

    def first_tokens(self) -> tuple[nn.Module, int] | None:
        alone = isinstance(self.first, FirstTokens) and not self.tasks
        return (self.blocks[-1], self.first.count) if alone else None

    def norm_readers(self) -> Iterator[NormReader]:
        if self.tasks or getattr(self.head, "linear_dist", None) is not None:
            return
        if self.pre_logits is not None:
            yield NormReader(self.norm, self.pre_logits.linear)
        elif self.output == "logits":
            yield NormReader(self.norm, cast("nn.Linear", self.head.linear))

    def residual_streams(self) -> Iterator[ResidualStream]:
        blocks = cast("list[TransformerBlock]", list(self.blocks))
        yield ResidualStream(
            writers=(self.tokens.conv, *(each for block in blocks for each in (block.attention.proj, block.mlp.fc2))),
            norms=(*(norm for block in blocks for norm in (block.norm1, block.norm2)), self.norm),
            constants=(self.tokens.prefix, self.tokens.positions, *self._task_constants()),
        )

    def _task_constants(self) -> Iterator[nn.Parameter]:
        for task in cast("Iterable[TaskMemory]", self.tasks or ()):
            yield from task.no_decay()


def transformer_block(config: Any, own: BlockWidths, stochastic_depth: float, **options: Any) -> TransformerBlock:
    """A block of a config that has ViT's fields, with the widths of its own."""
    return TransformerBlock(
        config.dim,
        own.num_heads,
        own.mlp_dim,
        key_dim=own.key_dim,
        value_dim=own.value_dim,
        activation=nn.GELU,
        layer_scale=config.layer_scale,
        dropout=config.dropout,
        mlp_dropout=config.dropout,
        stochastic_depth=stochastic_depth,
        **{"norm_eps": config.norm_eps, **options},
    )


def _initialize(module: nn.Module) -> None:
    """Truncated normal (std 0.02) for linears, as the authors train."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


VIT = ("https://arxiv.org/abs/2010.11929", "Apache-2.0 (google-research/vision_transformer)")


def info(release: tuple[str, str], weights: str, top1: float, *, image_size: int = 224) -> ModelInfo:
    """timm evaluates all of them alike: nine tenths of the shorter side at 224, all of it at 384."""
    return ModelInfo(
        paper=release[0],
        top1=top1,
        top1_source=f"timm's results ({weights} at {image_size}x{image_size})",
        license=release[1],
        preprocessing=Preprocessing(
            image_size=(image_size, image_size),
            resize_size=image_size if image_size > 224 else int(image_size / 0.9),
            interpolation="bicubic",
            mean=(0.5,) * 3 if release is VIT else (0.485, 0.456, 0.406),
            std=(0.5,) * 3 if release is VIT else (0.229, 0.224, 0.225),
        ),
    )


_AUGREG = "ImageNet-21k, then ImageNet-1k"
Fields = dict[str, Any]
TINY, SMALL, MEDIUM, BASE = (Fields(dim=64 * heads, num_heads=heads) for heads in (3, 6, 8, 12))
AT_384 = Fields(image_size=(384, 384))


@register_model(info(VIT, _AUGREG, 75.452))
def vit_tiny_patch16_224() -> ViTConfig:
    return ViTConfig(**TINY)


@register_model(info(VIT, _AUGREG, 78.438, image_size=384))
def vit_tiny_patch16_384() -> ViTConfig:
    return ViTConfig(**TINY, **AT_384)


@register_model(info(VIT, _AUGREG, 76.010))
def vit_small_patch32_224() -> ViTConfig:
    return ViTConfig(**SMALL, patch_size=32)


@register_model(info(VIT, _AUGREG, 80.476, image_size=384))
def vit_small_patch32_384() -> ViTConfig:
    return ViTConfig(**SMALL, patch_size=32, **AT_384)


@register_model(info(VIT, _AUGREG, 81.402))
def vit_small_patch16_224() -> ViTConfig:
    return ViTConfig(**SMALL)


@register_model(info(VIT, _AUGREG, 83.814, image_size=384))
def vit_small_patch16_384() -> ViTConfig:
    return ViTConfig(**SMALL, **AT_384)


@register_model(info(VIT, _AUGREG, 80.732))
def vit_base_patch32_224() -> ViTConfig:
    return ViTConfig(**BASE, patch_size=32)


@register_model(info(VIT, _AUGREG, 83.358, image_size=384))
def vit_base_patch32_384() -> ViTConfig:
    return ViTConfig(**BASE, patch_size=32, **AT_384)


@register_model(info(VIT, _AUGREG, 84.534))
def vit_base_patch16_224() -> ViTConfig:
    return ViTConfig(**BASE)


@register_model(info(VIT, _AUGREG, 86.010, image_size=384))
def vit_base_patch16_384() -> ViTConfig:
    return ViTConfig(**BASE, **AT_384)


@register_model(info(VIT, _AUGREG, 85.798))
def vit_base_patch8_224() -> ViTConfig:
    return ViTConfig(**BASE, patch_size=8)
