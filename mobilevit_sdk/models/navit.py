"""NaViT, a vision transformer for any resolution and aspect ratio, and NaFlex-ViT, its descendant with public weights.

NaViT: Dehghani et al., NeurIPS 2023, https://arxiv.org/abs/2307.06304, written after the paper, whose authors published
neither code nor weights. NaFlex-ViT: timm's `naflexvit`, with the positions of SigLIP 2 or of NaViT,
https://arxiv.org/abs/2502.14786. Images of whole patches are taken as they are, one at a time or several in one packed
sequence: both run the same layers. `mobilevit_sdk.deployment` turns it into the graph that phones run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal, cast

import msgspec
import torch
from msgspec import UNSET, Meta, UnsetType
from torch import Tensor, nn

from mobilevit_sdk.layers import (
    AttentionPool,
    LastTokens,
    NormReader,
    PatchMap,
    PatchTokens,
    RaggedTokens,
    ResidualStream,
    TokenMean,
    TransformerBlock,
    own_image_mask,
)
from mobilevit_sdk.layers.grid_positions import KINDS, Coordinates
from mobilevit_sdk.models.backbone import Backbone
from mobilevit_sdk.models.block_widths import AttentionWidths, BlockWidths
from mobilevit_sdk.models.registry import register_family, register_model
from mobilevit_sdk.models.vit import BASE, SMALL, TINY, Channels, Count, Side, transformer_block
from mobilevit_sdk.spec import Features, ModelConfig, ModelInfo, Preprocessing, Strict


class Widths(Strict, frozen=True):
    """All numbers that pruning may change on their own."""

    blocks: tuple[BlockWidths | None, ...]  # null: removed
    pool: AttentionWidths | None = None  # null: the mean


class NaViTConfig(ModelConfig, frozen=True):
    """Everything that defines the network; probabilities default to inference. The defaults are the paper's.

    `positions` and `coordinates` are those of `layers.grid_positions`, with `position_length` places on each axis: the
    longest side in patches where coordinates are absolute, else a resolution. `registers` learned tokens stand before
    the patches of each image and are not pooled. `final_norm` is before the pool; behind it there always is one.
    Without `biases`, no layer has any. A pruned network has `widths`. Then `dim` still counts, but not `num_heads` and
    `mlp_ratio`.
    """

    dim: Channels
    num_heads: Count
    depth: Count = 12
    mlp_ratio: Annotated[int, Meta(ge=1, le=16)] = 4
    patch_size: Side = 16
    positions: Literal["grid", "learned", "sinusoidal", "fourier"] = "learned"
    coordinates: Coordinates = "fractional"
    position_length: Annotated[int, Meta(ge=1, le=1024)] = 64
    registers: Annotated[int, Meta(ge=0, le=64)] = 0
    qk_norm: bool = True
    biases: bool = False
    pooling: Literal["mean", "attention"] = "attention"
    layer_scale: bool = False
    final_norm: bool = True
    norm_eps: Annotated[float, Meta(gt=0, le=1)] = 1e-6
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    widths: Widths | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.positions == "grid" and self.coordinates == "absolute":
            raise ValueError("positions of a grid are interpolated: coordinates are fractional or aspect, not absolute")
        if self.positions == "sinusoidal" and self.dim % 4:
            raise ValueError(f"sinusoidal positions take quarters of the channels, and dim is {self.dim}")
        if self.widths is not UNSET:
            if len(self.widths.blocks) != self.depth:
                raise ValueError("the widths are not those of the blocks")
            if (self.widths.pool is None) != (self.pooling == "mean"):
                raise ValueError(f"the widths are not those of pooling by {self.pooling}")

    def explicit(self) -> NaViTConfig:
        """The same network with all its widths written out."""
        if self.widths is not UNSET:
            return self
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}")
        sizes = {"num_heads": self.num_heads, **dict.fromkeys(("key_dim", "value_dim"), self.dim // self.num_heads)}
        block = BlockWidths(**sizes, mlp_dim=self.dim * self.mlp_ratio)
        pool = AttentionWidths(**sizes) if self.pooling == "attention" else None
        return msgspec.structs.replace(self, widths=Widths(blocks=(block,) * self.depth, pool=pool))

    @property
    def stride(self) -> int:
        return self.patch_size

    def check_image_size(self, height: int, width: int) -> None:
        super().check_image_size(height, width)
        patch, longest = self.patch_size, self.position_length
        if height % patch or width % patch:
            raise ValueError(f"images of {height}x{width} are not whole patches of {patch} pixels")
        if (self.positions, self.coordinates) == ("learned", "absolute") and max(height, width) > longest * patch:
            raise ValueError(
                f"images of {height}x{width} are longer than the {longest} learned positions of {patch} pixels; "
                f"no side may exceed {longest * patch}"
            )

    def at_image_size(self, height: int, width: int) -> NaViTConfig:
        """The config itself: the weights fit every size that `check_image_size` lets pass."""
        self.check_image_size(height, width)
        return self


@register_family("navit", NaViTConfig)
class NaViT(Backbone):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes], H and W of whole patches.

    `forward_packed` takes sequences of patches of several images; both are `tokens`, `encode` and `classify_tokens`.
    """

    head: nn.Module

    def __init__(self, config: NaViTConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.explicit().widths
        assert widths is not UNSET
        positions = KINDS[config.positions](config.dim, config.position_length, config.coordinates)
        self.tokens: RaggedTokens | PatchTokens = RaggedTokens(
            config.in_channels,
            config.dim,
            config.patch_size,
            positions,
            registers=config.registers,
            bias=config.biases,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential()
        rates = torch.linspace(0, config.stochastic_depth, config.depth, device="cpu")  # deeper blocks drop more
        for i, (own, p) in enumerate(zip(widths.blocks, rates.tolist(), strict=True)):
            if own is not None:  # removed blocks leave gaps in the numbering
                self.blocks.add_module(
                    str(i), transformer_block(config, own, p, qk_norm=config.qk_norm, bias=config.biases)
                )
        self.patches = LastTokens(config.registers) if config.registers else nn.Identity()
        norm = partial(nn.LayerNorm, config.dim, eps=config.norm_eps, bias=config.biases)
        self.norm = norm() if config.final_norm else nn.Identity()
        self.pooling: TokenMean | AttentionPool = TokenMean()
        if (pool := widths.pool) is not None:
            sizes = {"key_dim": pool.key_dim, "value_dim": pool.value_dim}
            self.pooling = AttentionPool(config.dim, pool.num_heads, **sizes, bias=config.biases)
        self.fc_norm: nn.Module = norm()
        self.head = nn.Linear(config.dim, config.num_classes, bias=config.biases)
        self.apply(_initialize)

    def return_features(self, kind: Features, *, scores: bool = False) -> None:
        """Pooled: what the classifier reads, [B, dim]; map: the patches' tokens before the pool, [B, dim, h, w].

        As timm's with `num_classes=0` and of `forward_features`.
        """
        self.output = kind
        self.head = nn.Identity()
        if kind == "map":
            self.pooling, self.fc_norm = PatchMap(), nn.Identity()  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        height, width = (side // self.config.patch_size for side in x.shape[2:])
        x = self.norm(self.patches(self.blocks(self.dropout(self.tokens(x)))))
        answer: Tensor
        if self.output == "map":
            answer = self.pooling(x, (height, width))
        else:
            answer = self.head(self.fc_norm(self.pooling(x)))
        return answer

    def forward_packed(
        self,
        patches: Tensor,
        rows: Tensor,
        columns: Tensor,
        heights: Tensor,
        widths: Tensor,
        images: Tensor,
        count: int,
    ) -> Tensor:
        """Class scores of each image of packed sequences: what `forward` answers to each alone.

        Shapes: patches [B, N, patch_size * patch_size * in_channels], as `layers.to_patches` cuts them, and integers
        [B, N]: the row and column of each patch, the height and width of its image in patches, and the number of its
        image within its sequence, from 0 to `count` - 1, or -1 for padding -> [B, count, num_classes]. Patches may
        stand in any order, and be some of an image's (token drop). The scores of numbers without patches are finite and
        mean nothing.
        """
        assert isinstance(self.tokens, RaggedTokens)
        x = self.tokens.embed(patches, rows, columns, heights, widths)
        numbers = torch.arange(count, device=images.device)
        registers = numbers.repeat_interleave(self.config.registers).expand(len(images), -1)
        owners = torch.cat([registers, images], 1)
        x = self.encode(self.tokens.after_registers(x, count), own_image_mask(owners))
        return self.classify_tokens(x[:, registers.shape[1] :], images[:, None] == numbers[:, None])

    def encode(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens with positions, registers included, through all blocks. Shapes: [B, N, dim] -> the same.

        `mask` is boolean, [B, 1, N, N]: which tokens (the last axis) each sees.
        """
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, mask)
        return x

    def classify_tokens(self, x: Tensor, members: Tensor) -> Tensor:
        """Scores of images from the tokens of their patches. Shapes: [B, N, dim] -> [B, images, num_classes].

        `members` is boolean, [B, images, N]: which tokens are of which image.
        """
        scores: Tensor = self.head(self.fc_norm(self.pooling(self.norm(x), members)))
        return scores

    def input_convolution(self) -> nn.Conv2d:
        """Of a network whose tokens were placed for images of one size: `deployment.place_tokens`."""
        assert isinstance(self.tokens, PatchTokens)
        return self.tokens.input_convolution()

    def norm_readers(self) -> Iterator[NormReader]:
        if isinstance(self.norm, nn.LayerNorm) and isinstance(self.pooling, AttentionPool):
            yield NormReader(self.norm, self.pooling.kv)
        if self.output == "logits":
            yield NormReader(cast("nn.LayerNorm", self.fc_norm), cast("nn.Linear", self.head))

    def residual_streams(self) -> Iterator[ResidualStream]:
        """The tokens', unless waves are added, which are no parameters; and what the pool answers."""
        blocks = cast("list[TransformerBlock]", list(self.blocks))
        if isinstance(self.tokens, PatchTokens):
            constants: tuple[nn.Parameter, ...] | None = self.tokens.no_decay()
            first: nn.Linear | nn.Conv2d = self.tokens.conv
        else:
            first, constants = self.tokens.proj, self.tokens.constants()
        own = self.norm if self.config.final_norm else self.fc_norm
        if constants is not None and isinstance(own, nn.LayerNorm):
            yield ResidualStream(
                writers=(first, *(each for block in blocks for each in (block.attention.proj, block.mlp.fc2))),
                norms=(*(norm for block in blocks for norm in (block.norm1, block.norm2)), own),
                constants=constants,
            )
        if isinstance(self.pooling, AttentionPool) and isinstance(self.fc_norm, nn.LayerNorm):
            yield ResidualStream(writers=(self.pooling.proj,), norms=(self.fc_norm,))


def _initialize(module: nn.Module) -> None:
    """Truncated normal (std 0.02) for linears."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _info(paper: str, top1: float | None, source: str, license: str, image_size: int) -> ModelInfo:
    return ModelInfo(
        paper=paper,
        top1=top1,
        top1_source=source,
        license=license,
        preprocessing=Preprocessing(
            image_size=(image_size, image_size),
            resize_size=image_size,
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    )


# The paper's network. Its fractional positions serve every size; the absolute ones reach as far as they were learned.
_NAVIT = _info("https://arxiv.org/abs/2307.06304", None, "no public weights", "none: no public weights", 224)


@register_model(_NAVIT)
def navit_tiny_patch16() -> NaViTConfig:
    return NaViTConfig(**TINY)


@register_model(_NAVIT)
def navit_small_patch16() -> NaViTConfig:
    return NaViTConfig(**SMALL)


@register_model(_NAVIT)
def navit_base_patch16() -> NaViTConfig:
    return NaViTConfig(**BASE)


@register_model(_NAVIT)
def navit_base_patch16_absolute() -> NaViTConfig:
    return NaViTConfig(**BASE, coordinates="absolute")


def _naflex(top1: float) -> ModelInfo:
    paper, license = "https://arxiv.org/abs/2502.14786", "Apache-2.0 (huggingface/pytorch-image-models)"
    return _info(paper, top1, "timm's results (ImageNet-1k at 384x384)", license, 384)


_NAFLEX: dict[str, Any] = {
    **BASE,
    "position_length": 16,
    "registers": 4,
    "qk_norm": False,
    "biases": True,
    "pooling": "mean",
    "layer_scale": True,
    "final_norm": False,
}


@register_model(_naflex(83.340))
def naflexvit_base_patch16_gap() -> NaViTConfig:
    return NaViTConfig(**_NAFLEX, positions="grid")


@register_model(_naflex(83.508))
def naflexvit_base_patch16_par_gap() -> NaViTConfig:
    return NaViTConfig(**_NAFLEX, positions="grid", coordinates="aspect")


@register_model(_naflex(83.468))
def naflexvit_base_patch16_parfac_gap() -> NaViTConfig:
    return NaViTConfig(**_NAFLEX, coordinates="aspect")
