"""Weights kept small in the file: operators on constants that yield the weights which the other operators take.

Those of iOS 16 keep indices and masks packed, the first in the lowest bits, and state the shape of the weights. Those
of iOS 18 have tensors of that shape, and scales and tables for each block of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _affine_dequantize(quantized_data: Tensor, zero_point: Any, scale: Any, axis: int) -> Tensor:
    """scale * (data - zero_point), each a scalar or one for each index along `axis`."""

    def along_axis(value: Any) -> Tensor:
        value = torch.as_tensor(value).float()
        return value.reshape([-1 if i == axis % quantized_data.ndim else 1 for i in range(quantized_data.ndim)])

    return along_axis(scale) * (quantized_data.float() - along_axis(zero_point))


def _blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """scale * (data - offset), with one of each for every block; its size follows from the two shapes."""
    shifted = data.float() if offset is None else data.float() - _each_block(offset, data).float()
    return _each_block(scale, data) * shifted


def _lut_to_dense(indices: Tensor, lut: Tensor, shape: Tensor | None = None, vector_axis: int | None = None) -> Tensor:
    """What the table has at each index; they come packed with one table, or unpacked with a table for each block.

    lut: [entries], or [*blocks, entries, length]; a table's vectors come to lie along `vector_axis`.
    """
    if shape is not None:
        bits = (len(lut) - 1).bit_length()
        return lut[_unpack(indices, bits, shape.tolist())]
    blocks, (entries, length) = lut.shape[:-2], lut.shape[-2:]
    table = _each_block(torch.arange(blocks.numel()).reshape(blocks), indices)
    found = lut.reshape(-1, entries, length)[table, indices.long()]  # [*indices, length]
    if vector_axis is None:
        return found.squeeze(-1)
    axis = vector_axis % indices.ndim
    return found.movedim(-1, axis + 1).flatten(axis, axis + 1)


def _lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: int | None = None
) -> tuple[Tensor, Tensor]:
    """As `_lut_to_dense`, for the places that are in the mask. Returns the mask of the result, and the result there."""
    dense = _lut_to_dense(_sparse_to_dense(indices_nonzero_data, indices_mask), lut, vector_axis=vector_axis)
    mask = indices_mask if vector_axis is None else indices_mask.repeat_interleave(lut.shape[-1], vector_axis)
    return mask, dense[mask.bool()]


def _sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `_blockwise_shift_scale`, for the places that are in the mask. Returns the mask, and the result there."""
    dense = _blockwise_shift_scale(_sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask.bool()]


def _sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Tensor | None = None) -> Tensor:
    """The data where the mask is set, in row-major order, and 0 elsewhere."""
    places = (mask if shape is None else _unpack(mask, 1, shape.tolist())).bool()
    dense = torch.zeros(places.shape, dtype=nonzero_data.dtype)
    dense[places] = nonzero_data
    return dense


def _cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """The program rounds to the type it states, which is `output_dtype`."""
    return torch.as_tensor(source_val)


def _each_block(values: Tensor, whole: Tensor) -> Tensor:
    """The value of its block for every element of `whole`."""
    for axis, (blocks, size) in enumerate(zip(values.shape, whole.shape, strict=True)):
        if size % blocks:
            raise ValueError(f"{blocks} blocks do not divide {size} elements of axis {axis}")
        values = values.repeat_interleave(size // blocks, axis)
    return values


def _unpack(packed: Tensor, bits: int, shape: list[int]) -> Tensor:
    """Unsigned integers of that many bits out of bytes."""
    stream = packed.long()[:, None] >> torch.arange(8) & 1  # [bytes, 8], the lowest bit first
    count = torch.Size(shape).numel()
    fields = stream.flatten()[: count * bits].reshape(count, bits)
    return (fields << torch.arange(bits)).sum(1).reshape(shape)


COMPRESSED: dict[str, Callable[..., Any]] = {
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_cast": _cast,
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": _sparse_to_dense,
}
