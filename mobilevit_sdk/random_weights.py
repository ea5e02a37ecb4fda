"""Weights for trying a model without a checkpoint, that hide nothing.

Default initialisations are no test of a conversion: residual branches whose last gain is 0 are folded away by the
converter, the file shrinks, and parity is perfect. Here every gain, bias and statistic is away from its neutral value.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import torch
from torch import Tensor, nn

from mobilevit_sdk.layers import StochasticDepth

M = TypeVar("M", bound=nn.Module)

_BRANCH_STRENGTH = 1 / 6


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


@torch.no_grad()
def settle(model: M, images: Tensor) -> M:
    """Bring random weights, in place, into the state of a trained network, by one pass in eval mode over `images`.

    Every BatchNorm gets about the statistics of what reaches it, and every residual branch ends at a sixth of its
    strength. Without the first, activations grow through each sum: EfficientViT-M0 reaches 1e13, where a softmax is an
    argmax and float16 infinite. Without the second the network is chaotic: float32 and float64 already part. Variances
    are rounded to powers of sqrt(2), means to quarters of a standard deviation, so that every machine finds the same.
    Images: [B, 3, H, W], as the model takes them.
    """
    last_layer: list[nn.Module] = []

    def settle_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        axes = [axis for axis in range(inputs[0].dim()) if axis != 1]
        var, mean = torch.var_mean(inputs[0].double(), axes, correction=0)
        var = var.clamp(min=float(var.mean()))  # what hardly varies here may vary in other images
        var = 2 ** ((2 * var.log2()).round() / 2)
        norm.running_var.copy_(var)
        norm.running_mean.copy_((4 * mean / var.sqrt()).round() / 4 * var.sqrt())

    def remember(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        last_layer[:] = [layer]

    def weaken(end: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for parameter in last_layer[0].parameters():
            parameter.mul_(_BRANCH_STRENGTH)
        return (inputs[0] * _BRANCH_STRENGTH,)

    hooks = []
    for layer in model.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            hooks.append(layer.register_forward_pre_hook(settle_norm))
        if isinstance(layer, StochasticDepth):  # stands at the end of every residual branch
            hooks.append(layer.register_forward_pre_hook(weaken))
        elif [*layer.parameters(recurse=False)]:
            hooks.append(layer.register_forward_hook(remember))
    try:
        model.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return model
