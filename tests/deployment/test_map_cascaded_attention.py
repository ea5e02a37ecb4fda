"""Cascaded group attention on maps equals the reference form: alone, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import randomize
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mobilevit_sdk.deployment.fold_batch_norm import fold_batch_norms
from mobilevit_sdk.deployment.map_cascaded_attention import (
    MapCascadedAttention,
    cascaded_attention_on_maps,
    cut_windows,
    join_windows,
)
from mobilevit_sdk.layers import CascadedGroupAttention, WindowPartition


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    window=st.integers(1, 3),
    kernels=st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=3),
    missing=st.booleans(),
)
def test_cascaded_attention_on_maps_is_exact(height, width, window, kernels, missing):
    """With maps that windows fill and that they do not, and with a head pruned from the middle of the cascade."""
    positions = (0, 2) if missing and len(kernels) == 3 else None
    attention = CascadedGroupAttention(4 * len(kernels), window, key_dim=2, kernels=tuple(kernels), positions=positions)
    attention = randomize(attention, 1).double().eval()
    nn.init.normal_(attention.position_bias.table, generator=torch.Generator().manual_seed(0))
    x = tensor(1, 4 * len(kernels), height, width)
    expected = attention(x)
    network = nn.Sequential(copy.deepcopy(attention))
    fold_batch_norms(network)
    cascaded_attention_on_maps(network)
    assert isinstance(network[0], MapCascadedAttention)
    torch.testing.assert_close(network(x), expected, rtol=1e-11, atol=1e-11)


@given(channels=st.integers(1, 3), height=st.integers(1, 7), width=st.integers(1, 7), window=st.integers(1, 4))
def test_windows_are_those_of_the_reference_and_join_to_the_map(channels, height, width, window):
    x = tensor(1, channels, height, width)
    windows = cut_windows(x, window)
    expected = WindowPartition(window)(x.permute(0, 2, 3, 1)).transpose(1, 2).reshape(windows.shape)
    assert torch.equal(windows, expected)
    assert torch.equal(join_windows(windows, x.shape), x)


def test_a_map_that_no_window_fills_is_refused():
    attention = randomize(CascadedGroupAttention(4, 3, key_dim=2, kernels=(1,)), 0).eval()
    network = nn.Sequential(attention)
    fold_batch_norms(network)
    cascaded_attention_on_maps(network)
    with pytest.raises(ValueError, match="does not fill a window of 3x3"):
        network(torch.rand(1, 4, 2, 5))
