"""ATen's operators in terms of those that coreai-torch writes well: its own table, with three of ours.

Of two, torch's own forms have rank 6 and rank 5; Apple asks for 5 at most on the Neural Engine, and for few transposes.
The third keeps digits in float16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

LONG_SUM = 256  # products, from which on float16 adds up parts
FEW_ROWS = 16  # of weights, up to which that is worth bringing them into order


def decomposition_table(coreai_torch: Any) -> dict[Any, Callable[..., Any]]:
    """For `ExportedProgram.run_decompositions`."""
    table: dict[Any, Callable[..., Any]] = dict(coreai_torch.get_decomp_table())
    table[torch.ops.aten.pixel_unshuffle.default] = pixel_unshuffle
    table[torch.ops.aten.einsum.default] = einsum
    table[torch.ops.aten.bmm.default] = bmm
    return table


def pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    """`torch.nn.functional.pixel_unshuffle` of one image.

    With a map [C, a p + i, b p + j]: [(C a), i, b, j] -> [(C a), i, j, b] -> [C, a, (i j), b] -> [C, (i j), a, b].
    Shapes: [1, C, H, W] -> [1, C p p, H / p, W / p], with `factor` p.
    """
    _, channels, height, width = x.shape
    rows, columns = height // factor, width // factor
    x = x.reshape(channels * rows, factor, columns, factor).permute(0, 1, 3, 2)
    x = x.reshape(channels, rows, factor * factor, columns).permute(0, 2, 1, 3)
    return x.reshape(1, channels * factor * factor, rows, columns)


def einsum(equation: str, operands: Sequence[Tensor], path: Any = None) -> Tensor:
    """`torch.einsum`, with products of maps, nchw,nwhu->nchu, as one batched product over H.

    Shapes: [1, C, H, W] and [1, W, H, U] -> [1, C, H, U]. Any other equation becomes what torch makes of it.
    """
    letters = dict(zip(dict.fromkeys(filter(str.isalpha, equation)), "nchwu", strict=False))
    if "".join(letters.get(c, c) for c in equation) != "nchw,nwhu->nchu" or operands[0].shape[0] != 1:
        whole: Tensor = torch.ops.aten.einsum.default.decompose(equation, operands)
        return whole
    x, y = operands
    _, channels, places, shared = x.shape
    # Of one place a transpose only moves an axis of 1, which a reshape does without one.
    rows = x if places == 1 else x.permute(0, 2, 1, 3)
    columns = y if places == 1 else y.permute(0, 2, 1, 3)
    product = torch.bmm(rows.reshape(places, channels, shared), columns.reshape(places, shared, -1))
    if places == 1:
        return product.reshape(1, channels, 1, -1)
    return product.reshape(1, places, channels, -1).permute(0, 2, 1, 3)


def bmm(x: Tensor, y: Tensor) -> Any:
    """`torch.bmm`, but `in_parts` where float16 would add up many products of few rows.

    Such products are added up in float16, one after the other. What is nearly constant, as maps of a white image are,
    rounds the same way each time: weighted means of 1024 pixels are at 37 dB, and at 72 dB in parts. Many rows would
    be many to bring into order. Shapes: [B, N, K] and [B, K, M] -> [B, N, M].
    """
    if x.dtype == torch.float16 and x.shape[2] >= LONG_SUM and x.shape[1] <= FEW_ROWS:
        return in_parts(x, y)
    return NotImplemented  # stays as it is


def in_parts(x: Tensor, y: Tensor) -> Tensor:
    """A product as several with shorter sums, and then their sum: of K = n k terms, n of k. Shapes: as `bmm`."""
    batch, rows, shared = x.shape
    parts = max(n for n in range(1, math.isqrt(shared) + 1) if shared % n == 0)
    x = x.reshape(batch, rows, parts, -1).permute(0, 2, 1, 3).reshape(batch * parts, rows, -1)
    y = y.reshape(batch * parts, shared // parts, -1)
    return torch.bmm(x, y).reshape(batch, parts, rows, -1).sum(1)
