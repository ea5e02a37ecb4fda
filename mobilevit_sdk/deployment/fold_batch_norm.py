"""BatchNorm folded into the convolution before it."""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.layers import ConvNormAct


@torch.no_grad()
def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Fold an inference-time BatchNorm into the convolution before it.

    gamma * (conv(x) - mean) / sqrt(var + eps) + beta  ==  conv'(x), with
    weight' = weight * gamma / sqrt(var + eps) and bias' = (bias - mean) * gamma / sqrt(var + eps) + beta.

    The products are taken in float64 and rounded once to the convolution's own type.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = conv.bias.double() if conv.bias is not None else torch.zeros_like(gain)
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        conv.groups,
        bias=True,
        dtype=conv.weight.dtype,
    )
    assert folded.bias is not None
    folded.weight.copy_(conv.weight.double() * gain.view(-1, 1, 1, 1))
    folded.bias.copy_((bias - norm.running_mean.double()) * gain + norm.bias.double())
    return folded


def fold_batch_norms(network: nn.Module) -> None:
    """Fold the BatchNorm of every ConvNormAct in place; the network must be in eval mode."""
    for layer in network.modules():
        if isinstance(layer, ConvNormAct) and isinstance(layer.norm, nn.BatchNorm2d):
            layer.conv = fold_batch_norm(layer.conv, layer.norm)
            layer.norm = nn.Identity()  # type: ignore[assignment]
