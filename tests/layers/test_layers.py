"""The blocks that families share, each against its definition."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from helpers import randomize
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.layers import Attention, PositionBias, WindowPartition, WindowReverse


@pytest.mark.parametrize("window_size", [1, 2, 3, 5])
def test_position_bias_numbers_offsets_by_their_first_occurrence(window_size):
    """As the official code of TinyViT and EfficientViT does, which decides what the columns of a table mean."""
    points = list(itertools.product(range(window_size), repeat=2))
    numbers: dict[tuple[int, int], int] = {}
    for (y, x), (other_y, other_x) in itertools.product(points, points):
        numbers.setdefault((abs(y - other_y), abs(x - other_x)), len(numbers))
    bias = randomize(PositionBias(3, window_size), 0)
    for (i, (y, x)), (j, (other_y, other_x)) in itertools.product(enumerate(points), enumerate(points)):
        column = numbers[abs(y - other_y), abs(x - other_x)]
        assert torch.equal(bias()[:, i, j], bias.table[:, column])


@pytest.mark.parametrize(("old", "new"), [(7, 8), (4, 7), (7, 12), (8, 4)])
def test_a_resized_table_is_the_bicubic_interpolation_of_the_official_code(old, new):
    """Keys's cubic kernel with a = -0.75 at half-pixel centers, borders repeated, and no smoothing when it shrinks."""
    bias = randomize(PositionBias(2, old), 3)
    matrix = torch.zeros(new, old)
    for i in range(new):
        center = (i + 0.5) * old / new - 0.5
        first = math.floor(center) - 1
        for j in range(first, first + 4):
            matrix[i, min(max(j, 0), old - 1)] += _cubic(abs(center - j))
    expected = matrix @ bias.table.detach().view(2, old, old) @ matrix.T
    torch.testing.assert_close(bias.resized_table(new).view(2, new, new), expected, rtol=1e-5, atol=1e-6)
    assert bias.resized_table(old) is bias.table


def _cubic(x, a=-0.75):
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    window=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_window_reverse_undoes_partition_at_any_size(batch, height, width, window, seed):
    x = torch.randn(batch, height, width, 5, generator=torch.Generator().manual_seed(seed))
    windows = WindowPartition(window)(x)
    assert windows.shape[1:] == (window**2, 5)
    assert torch.equal(WindowReverse(window)(windows, x.shape), x)


def test_windows_hold_neighbors_row_by_row_and_zeros_beyond_the_border():
    x = torch.arange(1.0, 13).view(1, 3, 4, 1)
    windows = WindowPartition(2)(x)[..., 0]
    assert windows.tolist() == [[1, 2, 5, 6], [3, 4, 7, 8], [9, 10, 0, 0], [11, 12, 0, 0]]


@given(
    batch=st.integers(1, 3), window=st.integers(1, 3), heads=st.sampled_from([1, 2]), head_dim=st.sampled_from([3, 8])
)
def test_attention_is_softmax_of_scaled_products_plus_bias(batch, window, heads, head_dim):
    dim, tokens = heads * head_dim, window**2
    attention = randomize(Attention(dim, heads, window_size=window), 1).double().eval()
    x = torch.randn(batch, tokens, dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    qkv = attention.qkv(x)
    outputs = []
    for head in range(heads):
        q, k, v = (qkv[..., part * dim + head * head_dim :][..., :head_dim] for part in range(3))
        scores = q @ k.transpose(1, 2) / head_dim**0.5 + attention.position_bias()[head]
        outputs.append(scores.softmax(-1) @ v)
    expected = attention.proj(torch.cat(outputs, -1))
    torch.testing.assert_close(attention(x), expected, rtol=1e-12, atol=1e-12)
