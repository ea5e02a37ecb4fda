"""A small detector of random weights that is as sure of what it finds as a trained one."""

from __future__ import annotations

import msgspec
import torch

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.models.registry import model_spec, spec_at_size

LABELS = ("ball", "cup", "kite", "boat", "tree", "sun", "house")


def small_detector() -> Checkpoint:
    """Nine queries and seven classes at 96x128 pixels. Of most images it finds some objects, not nine."""
    size = {"dim": 32, "num_heads": 4, "mlp_dim": 64, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 9}
    size |= {"num_classes": len(LABELS), "backbone_width": 8, "backbone_depths": (1, 1, 1, 1)}
    spec = spec_at_size(model_spec("detr_resnet50", **size), 96, 128)
    checkpoint = random_checkpoint(msgspec.structs.replace(spec, labels=LABELS), 0)
    with torch.no_grad():
        checkpoint.model.class_head.weight *= 20
    return checkpoint
