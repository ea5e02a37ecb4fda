"""Small networks with weights that hide nothing."""

from __future__ import annotations

import msgspec
from torch import nn

from mobilevit_sdk.models.mobilevit import MobileViTConfig, StageConfig
from mobilevit_sdk.random_weights import randomize
from mobilevit_sdk.registry import build_model
from mobilevit_sdk.spec import ModelSpec, Preprocessing


def tiny_spec(num_classes: int = 5, image_size: int = 32) -> ModelSpec:
    """A MobileViT with two stages, one of them with attention: all the blocks, almost no cost."""
    config = MobileViTConfig(
        stages=(
            StageConfig(channels=8, blocks=2, stride=1),
            StageConfig(channels=12, blocks=1, stride=2, dim=16, mlp_dim=24, depth=2),
        ),
        expansion=2,
        final_channels=24,
        stem_channels=8,
        num_classes=num_classes,
    )
    return ModelSpec(
        model="mobilevit_xxs",
        family="mobilevit",
        config=msgspec.to_builtins(config),
        preprocessing=Preprocessing(
            image_size=(image_size, image_size),
            resize_size=image_size,
            channel_order="bgr",
            mean=(0.4, 0.45, 0.5),
            std=(0.22, 0.23, 0.25),
        ),
        labels=tuple(f"class {i}" for i in range(num_classes)),
    )


def tiny_model(seed: int = 0, **kwargs: int) -> tuple[nn.Module, ModelSpec]:
    """The network of `tiny_spec` with random weights, in eval mode."""
    spec = tiny_spec(**kwargs)
    return randomize(build_model(spec), seed).eval(), spec


__all__ = ["randomize", "tiny_model", "tiny_spec"]
