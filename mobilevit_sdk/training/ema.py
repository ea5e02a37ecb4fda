"""Exponential moving average of a model's weights and statistics."""

from __future__ import annotations

import copy

import torch
from torch import nn


class ExponentialMovingAverage:
    """average = decay * average + (1 - decay) * weights after each step, BatchNorm's statistics included.

    The decay starts at 0.1 and grows to `decay`, so that a young average forgets the random initial weights. Integers,
    such as counters, are copied. `torch.optim.swa_utils.AveragedModel` has neither: it would need both as a custom
    averaging function, and its state an update counter of its own.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Average in the weights after optimizer step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)
