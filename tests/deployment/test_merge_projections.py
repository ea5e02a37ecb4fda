"""Projections that follow each other become one: exact, where it pays, and only what blocks declare."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from helpers import randomize
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.deployment.merge_projections import merge_projections, merged, pays
from mobilevit_sdk.layers import InvertedResidual, ProjectionPair
from mobilevit_sdk.models.mobilevitv2 import MobileViTv2Block
from mobilevit_sdk.models.registry import build_model, list_models, model_spec

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tensor(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Pair(nn.Module):
    """Two projections with `between` between them."""

    def __init__(self, writer: nn.Module, reader: nn.Module, between: nn.Module | None = None) -> None:
        super().__init__()
        self.writer, self.reader, self.between = writer, reader, between or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.reader(self.between(self.writer(x)))

    def projection_pairs(self) -> list[ProjectionPair]:
        return [ProjectionPair(self.writer, self.reader)]


class Pool(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


widths = st.integers(1, 7)


@given(
    inputs=widths, middle=widths, outputs=widths, bias=st.booleans(), reads_bias=st.booleans(), seed=st.integers(0, 5)
)
def test_two_convolutions_are_one_exactly(inputs, middle, outputs, bias, reads_bias, seed):
    pair = randomize(
        Pair(nn.Conv2d(inputs, middle, 1, bias=bias), nn.Conv2d(middle, outputs, 1, bias=reads_bias)), seed
    ).double()
    x = tensor(1, inputs, 3, 4, seed=seed)
    torch.testing.assert_close(merged(pair.writer, pair.reader)(x), pair(x), **EXACT)


@given(inputs=widths, outputs=widths, seed=st.integers(0, 5))
def test_a_convolution_and_a_linear_after_the_pool_are_one_linear_after_the_pool(inputs, outputs, seed):
    middle = inputs + outputs  # it always pays
    network = randomize(Pair(nn.Conv2d(inputs, middle, 1), nn.Linear(middle, outputs), Pool()), seed).double()
    x = tensor(2, inputs, 3, 4, seed=seed)
    expected = network(x)
    merge_projections(network)
    assert isinstance(network.writer, nn.Identity)
    assert network.reader.weight.shape == (outputs, inputs)
    torch.testing.assert_close(network(x), expected, **EXACT)


@pytest.mark.parametrize(
    ("inputs", "middle", "outputs", "expected"), [(4, 2, 4, True), (5, 2, 4, False), (9, 8, 9, True)]
)
def test_projections_are_merged_where_one_matrix_has_no_more_elements_than_two(inputs, middle, outputs, expected):
    network = Pair(nn.Conv2d(inputs, middle, 1), nn.Conv2d(middle, outputs, 1))
    assert pays(network.writer, network.reader) is expected
    merge_projections(network)
    assert isinstance(network.writer, nn.Identity) is expected


@pytest.mark.parametrize("name", list_models(family="mobilevitv2"))
def test_every_mobilevitv2_loses_the_projections_that_nothing_follows_but_another(name):
    """That of the first stage, which has no residual, and one of each of the three attention stages."""
    spec = model_spec(name)
    with torch.device("meta"):
        model = build_model(spec)
    pairs = list(model.projection_pairs())
    blocks = dict(model.named_modules())
    names = {module: name for name, module in blocks.items()}
    writers = [names[pair.writer].removesuffix(".project.conv") for pair in pairs if pays(pair.writer, pair.reader)]
    assert writers == ["stages.0.0", "stages.2.1", "stages.3.1", "stages.4.1"]
    assert pairs[-1].reader is model.head


def test_what_is_read_twice_is_not_declared():
    model = build_model(model_spec("mobilevitv2_050"))
    writers = [pair.writer for pair in model.projection_pairs()]
    blocks = [block for stage in model.stages for block in stage]
    for block, following in pairwise(blocks):
        residual = isinstance(following, InvertedResidual) and following.has_residual
        if residual or isinstance(following, MobileViTv2Block) or getattr(block, "has_residual", False):
            assert not any(block.project.conv is writer for writer in writers)


def test_the_phone_graph_of_mobilevitv2_has_a_sixth_fewer_weights():
    spec = model_spec("mobilevitv2_050")
    model = build_model(spec)
    graph = deploy(model, "litert-cpu", spec)
    weights = sum(p.numel() for p in graph.parameters())
    assert weights <= 0.83 * sum(p.numel() for p in model.parameters())
