"""Channels that share a quantization scale, brought to similar ranges where that is exact.

Cross-layer equalization (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019, section 4.1): f(s x) == s f(x) for every s > 0, if f is a ReLU, a sum, a mean, or a depthwise convolution whose
bias is multiplied by s. So W2 f(W1 x + b)  ==  (W2 diag(1 / s)) f(diag(s) (W1 x + b)), through any number of these.

Weights have one scale a row here, but the tensor between two layers has a single one. Its channels are balanced against
the columns that read them: s_j = sqrt(range of column j / range of channel j), as in SmoothQuant (arXiv 2211.10438,
alpha = 0.5). The range of a channel follows from the BatchNorms that write it, whose outputs have their bias as mean
and their gain as standard deviation: no images are needed, so everybody who deploys the network gets the same result.
Factors are powers of two: no weight is rounded, and channels of similar range stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.channel_groups import ChannelSlice, channel_groups, has_channel_groups

DEVIATIONS = 3  # standard deviations from its mean that a channel rarely exceeds


@torch.no_grad()
def equalize_channels(network: nn.Module) -> None:
    """Equalize, in place, the scale-equivariant channel groups of a network in eval mode, before norms are folded."""
    if not has_channel_groups(network):
        return
    for group in channel_groups(network):
        for part in group.parts if group.scale_equivariant else ():
            factors = _factors(part, group.size)
            for place in part if factors is not None else ():
                if place.degree:
                    assert factors is not None
                    _units(place, group.size).mul_(_along(factors**place.degree, place))


def _factors(part: tuple[ChannelSlice, ...], size: int) -> Tensor | None:
    """What to multiply each unit by, [size]; None where no BatchNorm writes the units, or no convolution reads them."""
    norms = [each for each in part if isinstance(each.owner, nn.BatchNorm2d)]
    means = [_units(each, size) for each in norms if each.tensor == "bias"]
    deviations = [_units(each, size) for each in norms if each.tensor == "weight"]
    columns = [_column_range(each, size) for each in part if each.degree < 0 and isinstance(each.owner, nn.Conv2d)]
    if not (norms and columns):
        return None
    # As for a sum of independent outputs.
    mean, variance = torch.stack(means).sum(0), torch.stack(deviations).square().sum(0)
    channel = mean.abs() + DEVIATIONS * variance.sqrt()
    column = torch.stack(columns).log().mean(0).exp()
    used = (channel > 0) & (column > 0)
    exponents = torch.where(used, 0.5 * (column / channel).log2(), 0.0)
    exponents = torch.where(used, exponents - exponents.sum() / used.sum(), 0.0)
    return exponents.round().exp2()


def _column_range(place: ChannelSlice, size: int) -> Tensor:
    """Root mean square of each unit's column, relative to the largest weight of each row. -> [size]"""
    weight: Tensor = getattr(place.owner, place.tensor)
    rows = weight.abs().flatten(1).amax(1).clamp(min=torch.finfo(weight.dtype).tiny)
    columns = _units(place, size) / rows.view(-1, 1, 1, 1)
    return columns.square().mean((0, 2, 3)).sqrt()


def _units(place: ChannelSlice, size: int) -> Tensor:
    tensor: Tensor = getattr(place.owner, place.tensor)
    assert place.rows == 1
    return tensor.narrow(place.axis, place.start, size)


def _along(factors: Tensor, place: ChannelSlice) -> Tensor:
    """[size] -> a shape that broadcasts over the other axes of the place's tensor."""
    shape = [1] * getattr(place.owner, place.tensor).ndim
    shape[place.axis] = -1
    return factors.view(shape)
