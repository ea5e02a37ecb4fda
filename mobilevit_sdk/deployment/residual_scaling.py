"""Residual streams at an eighth of their size, for backends that may compute in float16.

A norm does not depend on the scale of its input: norm(s x) with s^2 eps instead of eps == norm(x). So what writes to a
stream writes s times as much, W' = s W and b' = s b, and constants are s times themselves; its norms have s^2
eps, and what reads it without a norm reads 1/s times as much. A power of two is exact: in float32 the answers are the
same, bit for bit.

A GPU squares what a norm reads, and in float16 squares are infinite from 256 on. With s = 1/8 they are finite for
deviations up to 2047, and have all their digits from 1/16 on. At the small end, s^2 eps is a subnormal float16 (1.8e-7
for an eps of 1e-5), as that eps itself is.
"""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.layers.traits import ResidualStream, residual_streams

SCALE = 1 / 8


def scale_residual_streams(network: nn.Module) -> None:
    """Scale every stream that a block declares, in place."""
    for stream in residual_streams(network):
        scale_stream(stream)


@torch.no_grad()
def scale_stream(stream: ResidualStream) -> None:
    """Scale this one, in place."""
    for writer in stream.writers:
        writer.weight.mul_(SCALE)
    for constant in stream.constants:
        constant.mul_(SCALE)
    for layer in (*stream.writers, *stream.within):
        if layer.bias is not None:
            layer.bias.mul_(SCALE)
    for reader in stream.readers:
        reader.weight.div_(SCALE)
    for norm in stream.norms:
        norm.eps *= SCALE**2
