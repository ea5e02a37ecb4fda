"""DearKD: Data-Efficient Early Knowledge Distillation for Vision Transformers.

Chen et al., CVPR 2022, https://arxiv.org/abs/2204.12997. DeiT with a distillation token whose first blocks have
relative positions inside the softmax (multi-head convolutional attention), so that they can take over what the early
layers of a convolutional teacher know. The authors published no code. What the paper leaves open is as in the works
that it stands on: the form of the positions as in Cordonnier et al. (arXiv 1911.03584), in one softmax with the
content; their first values as in ConViT (arXiv 2103.10697); the class and the distillation token have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, cast

from msgspec import Meta
from torch import Tensor, nn

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import RelativePositions, TransformerBlock
from mobilevit_sdk.models.block_widths import BlockWidths
from mobilevit_sdk.models.registry import register_family, register_model
from mobilevit_sdk.models.vit import ViT, ViTConfig
from mobilevit_sdk.spec import MemoryTask, ModelInfo, Preprocessing


class DearKDConfig(ViTConfig, frozen=True):
    """Everything that defines the network, beside what ViT has.

    The first `relative_blocks` have relative positions. In the paper's networks heads are 12, 12 and 16.
    """

    distillation_token: bool = True
    distillation_head: bool = True
    relative_blocks: Annotated[int, Meta(ge=0, le=128)] = 8


@register_family("dearkd", DearKDConfig)
class DearKD(ViT):
    """Images to class scores (logits). Shapes: [B, in_channels, H, W] -> [B, num_classes], H and W of whole patches.

    In training mode, a pair of such: of the class head and of the distillation head.
    """

    def block(self, config: Any, index: int, own: BlockWidths, stochastic_depth: float, **options: Any) -> nn.Module:
        prefix = 1 + config.distillation_token
        positions = None
        if index < config.relative_blocks:
            positions = RelativePositions(own.num_heads, config.grid, prefix)
        return super().block(config, index, own, stochastic_depth, positions=positions)

    def run_blocks(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        for block in cast("Iterable[TransformerBlock]", self.blocks):
            positions = getattr(block.attention, "position_bias", None)  # those of a phone graph are constants
            if isinstance(positions, RelativePositions) and positions.grid != grid:
                x = block(x, positions(grid))
            else:
                x = block(x)
        return x

    def add_tasks(self, tasks: Sequence[MemoryTask]) -> None:
        raise RequestError("a task learns on a ViT, DeiT or DeepViT, not on DearKD, whose attention has a bias")


# Those of DeiT.
_INFO = ModelInfo(
    paper="https://arxiv.org/abs/2204.12997",
    top1=None,
    top1_source="no public weights",
    license="none: no public weights",
    preprocessing=Preprocessing(
        image_size=(224, 224),
        resize_size=248,
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
)


@register_model(_INFO)
def dearkd_tiny_patch16_224() -> DearKDConfig:
    return DearKDConfig(dim=192, num_heads=12)


@register_model(_INFO)
def dearkd_small_patch16_224() -> DearKDConfig:
    return DearKDConfig(dim=384, num_heads=12)


@register_model(_INFO)
def dearkd_base_patch16_224() -> DearKDConfig:
    return DearKDConfig(dim=768, num_heads=16)
