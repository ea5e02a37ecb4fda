"""Small networks of every family with weights that hide nothing, random prunings of them, and what masking computes."""

from __future__ import annotations

import copy
import random

import msgspec
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from mobilevit_sdk.models import dearkd, deepvit, detr, efficientvit, mobilevit, mobilevitv2, navit, tiny_vit, vit
from mobilevit_sdk.models.random_weights import condition_weights, randomize
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.pruning.structure import Pruning, Structure
from mobilevit_sdk.spec import ModelConfig, ModelSpec, Preprocessing

SIZE = 64  # pixels


def _mobilevit_stages(depth: int) -> tuple[mobilevit.StageConfig, ...]:
    return (
        mobilevit.StageConfig(channels=8, blocks=2, stride=1),  # with a residual to the stem
        mobilevit.StageConfig(channels=12, blocks=2, stride=2, dim=16, mlp_dim=24, depth=depth),
        mobilevit.StageConfig(channels=10, blocks=1, stride=2, dim=24, mlp_dim=20, depth=2),
    )


CONFIGS: dict[str, ModelConfig] = {
    "mobilevit": mobilevit.MobileViTConfig(
        stages=_mobilevit_stages(2), expansion=2, final_channels=24, stem_channels=8, num_heads=4
    ),
    "mobilevitv2": mobilevitv2.MobileViTv2Config(stages=_mobilevit_stages(3), stem_channels=8),
    "tiny_vit": tiny_vit.TinyViTConfig(
        dims=(8, 16, 24), depths=(2, 2, 2), window_sizes=(3, 4), head_dim=8, expansion=2, mlp_ratio=2
    ),
    "efficientvit": efficientvit.EfficientViTConfig(
        stages=tuple(efficientvit.StageConfig(channels=c, blocks=2, num_heads=h) for c, h in ((24, 3), (32, 4))),
        kernels=(5, 3, 3, 1),
        window_sizes=(3, 2),
        max_window_size=3,
        key_dim=6,
        distilled=True,
    ),
    "vit": vit.ViTConfig(
        dim=16,
        num_heads=2,
        depth=3,
        mlp_ratio=2,
        patch_size=16,
        image_size=(SIZE, SIZE),
        distillation_token=True,
        distillation_head=True,
        layer_scale=True,
    ),
    "deepvit": deepvit.DeepViTConfig(
        dim=16,
        num_heads=4,
        depth=3,
        mlp_ratio=2,
        patch_size=16,
        image_size=(SIZE, SIZE),
        re_attention_from=1,
        representation_dim=12,  # which ViT has, too, without a distillation head
    ),
    "dearkd": dearkd.DearKDConfig(
        dim=20, num_heads=5, depth=3, mlp_ratio=2, patch_size=16, image_size=(SIZE, SIZE), relative_blocks=2
    ),
    "navit": navit.NaViTConfig(
        dim=16, num_heads=2, depth=3, mlp_ratio=2, patch_size=16, position_length=5, registers=2, layer_scale=True
    ),
    "detr": detr.DETRConfig(
        dim=16,
        num_heads=2,
        mlp_dim=20,
        num_queries=6,
        encoder_layers=2,
        decoder_layers=3,
        backbone_width=6,
        backbone_depths=(1, 2, 1, 2),
        dilated=True,
    ),
}
MODELS = {
    "mobilevit": "mobilevit_xxs",
    "mobilevitv2": "mobilevitv2_050",
    "tiny_vit": "tiny_vit_5m_224",
    "efficientvit": "efficientvit_m0",
    "vit": "deit_tiny_distilled_patch16_224",
    "deepvit": "deepvit_patch16_224_re_attn_16b",
    "dearkd": "dearkd_tiny_patch16_224",
    "navit": "navit_tiny_patch16",
    "detr": "detr_resnet50_dc5",
}


def small_spec(family: str, num_classes: int = 5, **options: bool) -> ModelSpec:
    config = msgspec.structs.replace(CONFIGS[family], num_classes=num_classes, **options)
    return ModelSpec(
        model=MODELS[family],
        family=family,
        config=msgspec.to_builtins(config),
        preprocessing=Preprocessing(image_size=(SIZE, SIZE), resize_size=SIZE),
    )


def small_model(family: str, seed: int = 0, **options: int) -> tuple[nn.Module, ModelSpec]:
    """With weights that hide nothing, in the state of a trained network: its loss moves smoothly with them."""
    spec = small_spec(family, **options)
    images = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return condition_weights(randomize(build_model(spec), seed), images).eval(), spec


def answers(model: nn.Module, images: Tensor) -> Tensor:
    """All answers of a network in a row for each image, [B, ...]."""
    return joined(model(images))


def joined(found: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The answers of all outputs in a row for each image."""
    return torch.cat([each.flatten(1) for each in found], 1) if isinstance(found, tuple) else found


@st.composite
def prunings(draw: st.DrawFn, structure: Structure) -> Pruning:
    """Any units of any groups, as many of every part, and any blocks."""
    pruning = Pruning(structure)
    generator = random.Random(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from([0.2, 0.6, 1.0]))
    for index, group in enumerate(structure.groups):
        if generator.random() < share and group.size > group.minimum:
            count = generator.randint(1, group.size - group.minimum)
            pruning.remove(index, [generator.sample(range(group.size), count) for _ in group.parts])
    pruning.blocks = {number for number in range(len(structure.blocks)) if generator.random() < share / 2}
    return pruning


class MaskedNorm(nn.Module):
    """A LayerNorm, or GroupNorm with one group, whose statistics are those of some channels."""

    def __init__(self, norm: nn.LayerNorm | nn.GroupNorm, kept: Tensor) -> None:
        super().__init__()
        self.norm, self.kept = norm, kept

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.norm, nn.LayerNorm):
            chosen, axes, shape = x[..., self.kept], [-1], [-1]
        else:
            chosen, axes, shape = x[:, self.kept], [*range(1, x.ndim)], [-1] + [1] * (x.ndim - 2)
        mean = chosen.mean(axes, keepdim=True)
        variance = chosen.var(axes, correction=0, keepdim=True)
        normalized = (x - mean) / (variance + self.norm.eps).sqrt()
        normalized = normalized * self.norm.weight.view(shape)
        return normalized if self.norm.bias is None else normalized + self.norm.bias.view(shape)


@torch.no_grad()
def masked(pruning: Pruning) -> nn.Module:
    """The unpruned network in which every unit that goes is written as zero, and blocks that go hand on what they get.

    Nothing of what reads the units is touched.
    """
    structure = pruning.structure
    model = copy.deepcopy(structure.model)
    tensors = model.state_dict()
    for (name, axis), rows in pruning.removed_rows():
        if axis == 0 and name in tensors:
            tensors[name][rows] = 1 if name.endswith("running_var") else 0
        elif name.endswith("mixing.conv.weight"):  # the map of a head without queries is uniform, not zero
            tensors[name][:, rows] = 0
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.LayerNorm | nn.GroupNorm):
            mask = pruning.kept_masks().get((f"{name}.weight", 0))
            if mask is not None:
                parent, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(parent), leaf, MaskedNorm(module, torch.from_numpy(mask)))
    names = {module: name for name, module in structure.model.named_modules()}
    for number in pruning.blocks:
        block = model.get_submodule(names[structure.blocks[number].module])
        block.register_forward_hook(lambda module, inputs, output: inputs[0])
    return model
