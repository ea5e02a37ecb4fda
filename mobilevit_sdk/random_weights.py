"""Weights for trying a model without a checkpoint, that hide nothing.

Default initialisations are no test of a conversion: residual branches whose last gain is 0 are folded away by the
converter, the file shrinks, and parity is perfect. Here every gain, bias and statistic is away from its neutral value.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def randomize(model: M, seed: int) -> M:
    """Fill every parameter and buffer, in place, with values that depend on its name and `seed` alone.

    Kernels and matrices are normal with a gain that keeps activations alive through the depth; gains and variances lie
    in [0.5, 1.5]; biases and means are normal with standard deviation 0.2. Integer buffers stay as they are.
    """
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            value = torch.rand(tensor.shape, generator=generator) + 0.5
        elif tensor.ndim > 1:
            value = torch.randn(tensor.shape, generator=generator) * (1.4 / tensor[0].numel() ** 0.5)
        else:
            value = torch.randn(tensor.shape, generator=generator) * 0.2
        tensor.copy_(value)
    return model
