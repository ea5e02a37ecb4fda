"""ATen's operators in terms of those that coreai-torch writes well: its own table, with two in forms of rank 4.

torch's own forms have rank 6 and rank 5; Apple asks for 5 at most on the Neural Engine, and for few transposes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def decomposition_table(coreai_torch: Any) -> dict[Any, Callable[..., Any]]:
    """For `ExportedProgram.run_decompositions`."""
    table: dict[Any, Callable[..., Any]] = dict(coreai_torch.get_decomp_table())
    table[torch.ops.aten.pixel_unshuffle.default] = pixel_unshuffle
    table[torch.ops.aten.einsum.default] = einsum
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
