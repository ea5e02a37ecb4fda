"""Groups of weights that share a scale in 4 bits."""

from __future__ import annotations

from torch import Tensor

_GROUP = 32  # XNNPACK takes multiples of this


def in_groups(weight: Tensor, group_size: int) -> int:
    """How many weights of a row share a scale: a multiple of 32, or 0 where that does not divide the row."""
    size = -(-group_size // _GROUP) * _GROUP
    return 0 if weight.shape[1] % size else size
