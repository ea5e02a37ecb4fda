"""Channels that share a scale in integers, brought nearer to each other where that is exact.

Cross-layer equalization (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019, section 4.1): f(s x) == s f(x) for every s > 0, if f is a ReLU, a sum, a mean, or a convolution of one channel
whose bias is taken times s. So W2 f(W1 x + b)  ==  (W2 diag(1 / s)) f(diag(s) (W1 x + b)), through any number of these.

Rows of weights have scales of their own here. What wants evening is the tensor between, which has one scale, against
the columns that read it: s_j = sqrt(reach of column j / reach of channel j), SmoothQuant's balance (arXiv 2211.10438,
alpha = 0.5). How far a channel reaches is known from the BatchNorms that write it, whose results have their bias as
mean and their gain as standard deviation: without images, so that everybody who deploys the network finds the same.
Factors are powers of two: no weight is rounded, and channels that are about alike stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.channel_groups.groups import HasChannelGroups, Slice

DEVIATIONS = 3  # from its mean within which a channel mostly stays


@torch.no_grad()
def equalize_channels(network: nn.Module) -> None:
    """Equalize, in place, the scale-equivariant channel groups of a network in eval mode, before norms are folded."""
    if not isinstance(network, HasChannelGroups):
        return
    for width in network.widths():
        for part in width.parts if width.scale_equivariant else ():
            factors = _factors(part, width.size)
            for place in part if factors is not None else ():
                if place.degree:
                    assert factors is not None
                    _units(place, width.size).mul_(_along(factors**place.degree, place))


def _factors(part: tuple[Slice, ...], size: int) -> Tensor | None:
    """What to multiply each unit by; None where no BatchNorm writes them, or no convolution reads them."""
    norms = [each for each in part if isinstance(each.owner, nn.BatchNorm2d)]
    means = [_units(each, size) for each in norms if each.tensor == "bias"]
    deviations = [_units(each, size) for each in norms if each.tensor == "weight"]
    columns = [_column_reach(each, size) for each in part if each.degree < 0 and isinstance(each.owner, nn.Conv2d)]
    if not (norms and columns):
        return None
    # As of a sum of what they all write, independent of each other.
    mean, variance = torch.stack(means).sum(0), torch.stack(deviations).square().sum(0)
    reach = mean.abs() + DEVIATIONS * variance.sqrt()
    read = torch.stack(columns).log().mean(0).exp()
    used = (reach > 0) & (read > 0)
    exponents = torch.where(used, 0.5 * (read / reach).log2(), 0.0)
    exponents = torch.where(used, exponents - exponents.sum() / used.sum(), 0.0)
    return exponents.round().exp2()


def _column_reach(place: Slice, size: int) -> Tensor:
    """Root mean square of each unit's column, in shares of the largest weight of its row. -> [size]"""
    weight: Tensor = getattr(place.owner, place.tensor)
    rows = weight.abs().flatten(1).amax(1).clamp(min=torch.finfo(weight.dtype).tiny)
    columns = _units(place, size) / rows.view(-1, 1, 1, 1)
    return columns.square().mean((0, 2, 3)).sqrt()


def _units(place: Slice, size: int) -> Tensor:
    tensor: Tensor = getattr(place.owner, place.tensor)
    assert place.rows == 1
    return tensor.narrow(place.axis, place.start, size)


def _along(factors: Tensor, place: Slice) -> Tensor:
    """[size] -> a shape that spreads over the other axes of the place's tensor."""
    shape = [1] * getattr(place.owner, place.tensor).ndim
    shape[place.axis] = -1
    return factors.view(shape)
