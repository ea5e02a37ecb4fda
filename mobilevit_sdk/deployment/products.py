"""Batched matrix products, in the rank that a backend computes rightly.

[B, H, N, d] times [B, H, d, M] is one product for each of B * H pairs of matrices, so the two axes of the batch may as
well be one: [B * H, N, d] times [B * H, d, M]. Both move nothing and compute the same.

GPUs of phones answer wrongly to the second form in LiteRT (https://github.com/google-ai-edge/LiteRT/issues/8619), and
to operands that the product itself transposes (issue 8913). `torch.bmm` has rank 3 only, and `torch.matmul` becomes it
on export. An einsum stays whole, but only in the order of axes below is it a product without a transposed operand.
"""

from __future__ import annotations

import torch
from torch import Tensor

EQUATION = "bhnd,bhdm->bhnm"


def batched_product(x: Tensor, y: Tensor) -> Tensor:
    """[B, N, d] times [B, d, M] -> [B, N, M], or [B, H, N, d] times [B, H, d, M] -> [B, H, N, M]."""
    return torch.bmm(x, y) if x.dim() == 3 else torch.einsum(EQUATION, x, y)


def batch_axes(batch: int, heads: int, rank: int) -> tuple[int, ...]:
    """The leading axes of a product of `rank` over all heads: both, or folded into one."""
    return (batch, heads) if rank == 4 else (batch * heads,)
