"""Exponential moving average of a model's weights and statistics."""

from __future__ import annotations

import copy

import torch
from torch import nn


class ExponentialMovingAverage:
    """average = decay * average + (1 - decay) * weights after each step; young averages follow faster."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, values = list(self.model.state_dict().values()), list(model.state_dict().values())
        floating = [i for i, value in enumerate(values) if value.is_floating_point()]
        torch._foreach_lerp_([averages[i] for i in floating], [values[i] for i in floating], 1 - decay)
        for i, value in enumerate(values):
            if not value.is_floating_point():
                averages[i].copy_(value)
