"""random_checkpoint."""

from __future__ import annotations

import numpy as np
import torch

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.models.random_weights import condition_weights, randomize
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.spec import ModelSpec


def random_checkpoint(spec: ModelSpec, seed: int) -> Checkpoint:
    """The network of `spec` with random, non-degenerate weights, conditioned on photographs and on edge cases."""
    from mobilevit_sdk.data import to_model_input
    from mobilevit_sdk.data.cases import builtin_cases

    cases = builtin_cases(spec.preprocessing)
    pixels = np.stack([case.image for case in cases if case.contiguous])  # the other one is there already
    images = to_model_input(torch.from_numpy(pixels), spec.preprocessing)
    model = condition_weights(randomize(build_model(spec), seed), images)
    return Checkpoint(model, spec, layout="random weights", source=spec.model, random_weights_seed=seed)
