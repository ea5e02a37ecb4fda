"""Checkpoints: one safe file that holds a network's weights and everything that is needed to use them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import safetensors.torch
import torch
from torch import nn

from mobilevit_sdk.files import replacing
from mobilevit_sdk.spec import ModelSpec

HEADER_KEY = "mobilevit_sdk"


def save_checkpoint(model: nn.Module, spec: ModelSpec, path: Path) -> None:
    """Write weights and spec to one `.safetensors` file, atomically. Raises RequestError where it cannot be written."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    header = {"format": "pt", HEADER_KEY: msgspec.json.encode(spec).decode()}
    with replacing(path) as fresh:
        safetensors.torch.save_file(weights, fresh, metadata=header)
