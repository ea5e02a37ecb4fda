"""BatchNorm over the images of all processes, as one process would compute it over the whole batch.

torch's own `SyncBatchNorm` takes tensors on GPUs alone, and is another class: what asks for a `BatchNorm2d`, such as
quantization-aware training, would not find it. This one is the same function on every device.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Shares:
    """Which shares of a batch the processes have, by the number of their images; equal ones until it is set."""

    def __init__(self, size: int, rank: int) -> None:
        self.rank = rank
        self.set([1] * size)

    def set(self, images: list[int]) -> None:
        """The images of each process in the batch that comes next."""
        self.of_all = [count / sum(images) for count in images]

    @property
    def own(self) -> float:
        """That of this process."""
        return self.of_all[self.rank]


def synchronize_norms(model: nn.Module, shares: Shares) -> None:
    """Let every BatchNorm of `model`, in training mode, take its statistics over all processes, in place.

    Modules, parameters and names stay as they are. A layer in eval mode, such as a frozen one, stays as it is, too.
    """
    for layer in model.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.forward = partial(_forward, layer, shares)  # type: ignore[method-assign]


def _forward(layer: nn.BatchNorm1d | nn.BatchNorm2d, shares: Shares, x: Tensor) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, x)
    count = x.numel() / x.shape[1] / shares.own
    y, mean, variance = cast(
        "tuple[Tensor, Tensor, Tensor]",
        _Synchronized.apply(x, layer.weight, layer.bias, layer.eps, shares.of_all, count),  # type: ignore[no-untyped-call]
    )
    with torch.no_grad():
        assert layer.num_batches_tracked is not None
        assert layer.running_mean is not None
        assert layer.running_var is not None
        assert layer.momentum is not None
        layer.num_batches_tracked.add_(1)
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * (count / (count - 1)), layer.momentum)  # without bias, as torch does
    return y


class _Synchronized(torch.autograd.Function):
    """The normalization, and its gradient: one exchange of 2 C numbers forward and one backward.

    The gradients of gain and bias are those of this process's images: what adds up all gradients adds these up as well.
    Small tensors are computed in few calls, since there are many layers and each call costs some microseconds.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, eps: float, shares: list[float], count: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = _statistics(x, shares)
        y = torch.native_batch_norm(x, gain, bias, mean, variance, False, 0.0, eps)[0]
        ctx.save_for_backward(x, gain, mean, variance)
        ctx.eps, ctx.count = eps, count
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, mean, variance = ctx.saved_tensors
        above = gradients[0].contiguous(memory_format=_format_of(x))
        _, of_gain, of_bias = torch.ops.aten.native_batch_norm_backward(
            above, x, gain, mean, variance, None, None, False, ctx.eps, [False, True, True]
        )
        both = torch.cat([of_gain, of_bias])
        dist.all_reduce(both)
        by_gain, by_bias = (both / ctx.count).chunk(2)
        inverse = (variance + ctx.eps).rsqrt()
        scale = gain * inverse
        slope = scale * inverse * by_gain
        shift = torch.addcmul(scale * by_bias, mean, slope, value=-1).neg()
        zero, one = _constants(len(gain), gain.dtype, gain.device)
        of_x = torch.native_batch_norm(x, -slope, shift, zero, one, False, 0.0, 0.0)[
            0
        ]  # shift - slope * x, in one pass
        of_x.addcmul_(above, scale.to(above.dtype).view(1, -1, *[1] * (x.dim() - 2)))
        return of_x, of_gain, of_bias, None, None, None


def _statistics(x: Tensor, shares: list[float]) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over all processes.

    The parts are put together as Chan et al. do (1979), not from sums of squares, which lose digits.
    """
    exact = x if x.dtype in (torch.float32, torch.float64) else x.float()
    own = torch.cat(torch.ops.aten.batch_norm_update_stats(exact, None, None, 0.0))
    every = [torch.empty_like(own) for _ in shares]
    dist.all_gather(every, own)
    parts, weights = torch.stack(every), own.new_tensor(shares)
    mean, within = (weights @ parts).chunk(2)
    return mean, torch.addmv(within, (parts[:, : len(mean)] - mean).square().T, weights)


@cache
def _constants(channels: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.zeros(channels, dtype=dtype, device=device), torch.ones(channels, dtype=dtype, device=device)


def _format_of(x: Tensor) -> torch.memory_format:
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
