"""Stochastic depth (Huang et al., arXiv 1603.09382)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

Draw = Callable[[int], Tensor]  # how many samples there are -> a number in [0, 1) for each, [samples]
_draw: ContextVar[Draw | None] = ContextVar("what draws for the samples of a batch", default=None)


@contextmanager
def drawing_samples(draw: Draw) -> Iterator[None]:
    """Within it, stochastic depth takes its random numbers from `draw` instead of torch's global generator.

    So a process that computes a part of a batch drops what a process that computes all of it would drop.
    """
    before = _draw.set(draw)
    try:
        yield
    finally:
        _draw.reset(before)


class StochasticDepth(nn.Module):
    """In training, drop a residual branch for a whole sample with probability `p` and scale the rest by 1 / (1 - p).

    Shapes: [B, ...] -> [B, ...]; `groups` consecutive rows of the first axis belong to one sample and drop together.
    """

    def __init__(self, p: float, *, groups: int = 1) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"the probability of stochastic depth must be in [0, 1), not {p}")
        self.p = p
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        samples, draw = x.shape[0] // self.groups, _draw.get()
        uniform = torch.rand(samples, device=x.device) if draw is None else draw(samples).to(x.device)
        keep = uniform.ge(self.p).to(x.dtype).div_(1 - self.p)
        return x * keep.repeat_interleave(self.groups).view(-1, *[1] * (x.dim() - 1))
