"""Small networks with weights that hide nothing."""

from __future__ import annotations

import hashlib
from typing import TypeVar

import torch
from torch import nn

from mobilevit_sdk.models.mobilevit import MobileViTConfig, StageConfig
from mobilevit_sdk.registry import build_model, model_spec
from mobilevit_sdk.spec import ModelSpec, Preprocessing

M = TypeVar("M", bound=nn.Module)


def randomize(model: M, seed: int = 0) -> M:
    """Fill every parameter and buffer with non-degenerate values that depend on its name and the seed alone.

    Gains and variances are positive and vary, biases and means are not zero, so that no branch of the network is dead
    and no wrong fold goes unseen.
    """
    for name, tensor in model.state_dict().items():
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            value = torch.rand(tensor.shape, generator=generator) + 0.5
        elif tensor.ndim > 1:
            value = torch.randn(tensor.shape, generator=generator) * (1.4 / tensor[0].numel() ** 0.5)
        elif name.endswith("weight"):
            value = torch.rand(tensor.shape, generator=generator) + 0.5
        else:
            value = torch.randn(tensor.shape, generator=generator) * 0.2
        tensor.copy_(value)
    return model


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
    import msgspec

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


__all__ = ["model_spec", "randomize", "tiny_model", "tiny_spec"]
