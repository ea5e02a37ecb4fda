"""The one counter of multiply-accumulates: convolutions, linears and the products of attention."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def macs_by_module(model: nn.Module, image_size: tuple[int, int]) -> dict[str, int]:
    """Multiply-accumulates on one image of (H, W) pixels: path of a module in the model -> those within it; "": all.

    Runs the model once, in eval mode, on its own device; on the meta device nothing is computed.
    """
    example = next(model.parameters())
    image = torch.zeros(1, 3, *image_size, dtype=example.dtype, device=example.device)
    training = model.training
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:  # the counter follows gradients of a view of one even under no_grad, and finds none
            parameter.requires_grad_(False)
        # The fused kernels of attention are not counted on every device; the products that they fuse are.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model.eval()(image)
    finally:
        model.train(training)
        for parameter in learning:
            parameter.requires_grad_(True)
    root = f"{type(model).__name__}."
    counts = {path.removeprefix(root): sum(counts.values()) // 2 for path, counts in counter.get_flop_counts().items()}
    return {**counts, "": counter.get_total_flops() // 2}
