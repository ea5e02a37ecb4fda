"""The rewrites of NaViT's tokens, queries and pool, each alone: identities in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import noise, tiny_model
from torch import nn

from mobilevit_sdk.deployment.channels_first.constant_query import ChannelsFirstQueryPool
from mobilevit_sdk.deployment.channels_first.patches import ChannelsFirstBlock
from mobilevit_sdk.deployment.constant_query import ConstantQueryPool
from mobilevit_sdk.deployment.explicit_attention import split_attention
from mobilevit_sdk.deployment.fold_layer_scale import fold_layer_scales
from mobilevit_sdk.deployment.fold_norm_affine import fold_affine, fold_norm_affines
from mobilevit_sdk.deployment.matmul_layer_norm import layer_norms_as_matmuls
from mobilevit_sdk.deployment.mean_centering import center_residual_streams
from mobilevit_sdk.deployment.placed_tokens import place_tokens, placed
from mobilevit_sdk.deployment.residual_scaling import scale_residual_streams
from mobilevit_sdk.layers import AttentionPool, RaggedTokens, TransformerBlock
from mobilevit_sdk.layers.grid_positions import KINDS

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def lively(layer: nn.Module) -> nn.Module:
    """Every tensor of it normal, so that none is too small to show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.normal_(generator=generator)
    return layer.double().eval()


@given(
    kind=st.sampled_from(sorted(KINDS)),
    coordinates=st.sampled_from(["fractional", "aspect"]),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    registers=st.integers(0, 2),
    bias=st.booleans(),
)
def test_tokens_placed_for_one_size_are_those_of_a_vit(kind, coordinates, grid, registers, bias):
    tokens = lively(RaggedTokens(3, 8, 4, KINDS[kind](8, 3, coordinates), registers=registers, bias=bias))
    size = (4 * grid[0], 4 * grid[1])
    image = noise(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(placed(tokens, size)(image), tokens(image), **EXACT)


@pytest.mark.parametrize("form", ["rows", "means", "rank 4", "channels first"])
@given(tokens=st.integers(1, 7), num_heads=st.sampled_from([1, 2]), key_dim=st.integers(1, 5))
def test_queries_and_keys_of_unit_length_give_the_same_scores(form, tokens, num_heads, key_dim):
    block = lively(TransformerBlock(8, num_heads, 12, key_dim=key_dim, qk_norm=True, bias=False, activation=nn.GELU))
    x = noise(1, tokens, 8, dtype=torch.float64)
    expected = block(x)
    if form == "channels first":
        found = ChannelsFirstBlock(block)(x.transpose(1, 2)[:, :, None])[:, :, 0].transpose(1, 2)
    else:
        split_attention(block, 4 if form == "rank 4" else 3, means=form == "means")
        found = block.double()(x)
    torch.testing.assert_close(found, expected, **EXACT)


@given(
    tokens=st.integers(1, 9),
    num_heads=st.integers(1, 3),
    dims=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    bias=st.booleans(),
)
def test_a_constant_query_needs_no_keys(tokens, num_heads, dims, bias):
    pool = lively(AttentionPool(6, num_heads, key_dim=dims[0], value_dim=dims[1], bias=bias))
    x = noise(1, tokens, 6, dtype=torch.float64)
    expected = pool(x)
    for rank in (3, 4):
        torch.testing.assert_close(ConstantQueryPool(pool, rank)(x), expected, **EXACT)
    maps = ChannelsFirstQueryPool(pool)(x.transpose(1, 2)[:, :, None])
    torch.testing.assert_close(maps, expected, **EXACT)


def test_a_norm_without_bias_goes_into_a_linear_without_one_or_gets_one_of_zeros():
    block = lively(TransformerBlock(8, 2, 12, activation=nn.GELU, bias=False, layer_scale=True))
    x = noise(2, 5, 8, dtype=torch.float64)
    expected = block(x)
    fold_layer_scales(block)
    fold_norm_affines(block, layer_norms=False)
    assert not block.norm1.bias.any()
    torch.testing.assert_close(block(x), expected, **EXACT)
    block.norm1.bias = block.norm2.bias = None
    fold_norm_affines(block)
    assert (block.norm1.weight, block.norm1.bias, block.attention.qkv.bias) == (None, None, None)
    torch.testing.assert_close(block(x), expected, **EXACT)
    with pytest.raises(ValueError, match="without bias"):
        fold_affine(nn.LayerNorm(8), nn.Linear(8, 4, bias=False))


@pytest.mark.parametrize("bias", [False, True])
def test_a_norm_that_keeps_its_gain_is_a_matmul_with_it(bias):
    holder = nn.Sequential(lively(nn.LayerNorm(8, bias=bias)))
    x = noise(2, 5, 8, dtype=torch.float64)
    expected = holder(x)
    layer_norms_as_matmuls(holder, ())
    torch.testing.assert_close(holder(x), expected, **EXACT)


@pytest.mark.parametrize("rewrite", [center_residual_streams, scale_residual_streams])
@pytest.mark.parametrize(
    "options",
    [{}, {"pooling": "mean", "final_norm": False, "biases": True}, {"positions": "grid"}, {"positions": "fourier"}],
    ids=str,
)
@pytest.mark.parametrize("place", [False, True])
def test_streams_stay_the_same_to_their_norms(rewrite, options, place):
    """As it is, where positions are learned, and for one size; of waves for one size alone."""
    model, spec = tiny_model("navit", **options)
    model = model.double()
    fold_layer_scales(model)
    image = noise(1, 3, *spec.preprocessing.image_size, dtype=torch.float64)
    expected = model(image)
    if place:
        place_tokens(model, spec.preprocessing.image_size)
    elif options.get("positions") == "fourier":
        assert len([*model.residual_streams()]) == 1
        return
    before = model.tokens(image)
    rewrite(model)
    torch.testing.assert_close(model(image), expected, rtol=1e-11, atol=1e-11)
    assert (model.tokens(image) - before).abs().max() > 1e-3
