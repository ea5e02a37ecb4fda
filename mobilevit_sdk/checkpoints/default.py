"""The checkpoint that ships with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

DEFAULT_CHECKPOINT = "mobilevit_xxs_cifar10.safetensors"


def default_checkpoint() -> Path:
    """The trained checkpoint that ships with the package: MobileViT-XXS on CIFAR-10 at 64x64."""
    return Path(str(files("mobilevit_sdk") / "weights" / DEFAULT_CHECKPOINT))
