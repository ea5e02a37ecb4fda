"""The rewrites of ViT's tokens, each alone: identities in float64."""

from __future__ import annotations

import pytest
import torch
from helpers import randomize
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import noise, tiny_model
from torch import nn

from mobilevit_sdk.deployment.channels_first.patches import ChannelsFirstBlock
from mobilevit_sdk.deployment.channels_first.tokens import ChannelsFirstClassifier
from mobilevit_sdk.deployment.explicit_attention import split_attention
from mobilevit_sdk.deployment.first_tokens import answer_first_tokens
from mobilevit_sdk.deployment.fold_head_mixing import folded
from mobilevit_sdk.deployment.fold_layer_scale import fold_layer_scales
from mobilevit_sdk.deployment.fold_norm_affine import fold_affine
from mobilevit_sdk.deployment.input_normalization import fold_input_normalization, input_normalization
from mobilevit_sdk.deployment.mean_centering import center_residual_streams
from mobilevit_sdk.deployment.padded_tokens import PaddedTokens
from mobilevit_sdk.deployment.residual_scaling import scale_residual_streams
from mobilevit_sdk.deployment.token_classifier import JoinedClassifier
from mobilevit_sdk.layers import HeadMixing, LayerScale, PatchTokens, TokenClassifier, TransformerBlock
from mobilevit_sdk.spec import Preprocessing

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def lively(layer: nn.Module) -> nn.Module:
    """Every tensor of it normal, so that none is too small to show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.normal_(generator=generator)
    return layer.double().eval()


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return noise(1, 3, height, width, seed=seed, dtype=torch.float64)


@given(
    prefix=st.integers(1, 3),
    own=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    prefix_positions=st.booleans(),
    channels_first=st.booleans(),
)
def test_tokens_that_begin_with_constants_are_a_pad_and_a_sum(prefix, own, grid, prefix_positions, channels_first):
    tokens = lively(PatchTokens(3, 6, 4, own, prefix=prefix, prefix_positions=prefix_positions))
    size = (4 * grid[0], 4 * grid[1])
    expected = tokens(image(*size))
    padded = PaddedTokens(tokens, size, channels_first=channels_first).double()
    found = padded(image(*size))
    assert padded.conv.bias is None
    torch.testing.assert_close(found[:, :, 0].transpose(1, 2) if channels_first else found, expected, **EXACT)


@pytest.mark.parametrize("product_rank", [3, 4])
@given(tokens=st.integers(1, 9), count=st.integers(1, 9))
def test_the_first_tokens_need_no_other_queries(product_rank, tokens, count):
    count = min(tokens, count)
    block = lively(TransformerBlock(8, 2, 12, activation=nn.GELU, layer_scale=True))
    x = noise(2, tokens, 8, dtype=torch.float64)
    expected = block(x)[:, :count]
    block.attention.num_queries = count
    torch.testing.assert_close(block(x), expected, **EXACT)
    split_attention(block, product_rank)
    torch.testing.assert_close(block(x), expected, **EXACT)


def test_a_network_reads_only_what_its_last_block_answers():
    model, spec = tiny_model("vit")
    model = model.double()
    pixels = image(*spec.preprocessing.image_size)
    expected = model(pixels)
    answer_first_tokens(model)
    assert model.blocks(model.tokens(pixels)).shape == (1, 2, 16)
    torch.testing.assert_close(model(pixels), expected, **EXACT)


@pytest.mark.parametrize("distilled", [False, True])
def test_heads_on_tokens_are_one_linear_with_the_norm_in_it(distilled):
    classifier, norm = lively(TokenClassifier(8, 5, distilled=distilled)), lively(nn.LayerNorm(8))
    x = noise(3, 1 + distilled, 8, dtype=torch.float64)
    expected = classifier(norm(x))
    joined = JoinedClassifier(classifier)
    torch.testing.assert_close(joined(norm(x)), expected, **EXACT)
    fold_affine(norm, joined.linear)
    assert norm.weight is None
    torch.testing.assert_close(joined(norm(x)), expected, **EXACT)
    rows = norm(x[:1])  # [1, p, C], and the same as [1, C, 1, p]
    maps = ChannelsFirstClassifier(joined.linear, 8)(rows.transpose(1, 2)[:, :, None])
    torch.testing.assert_close(maps, expected[:1], **EXACT)


def test_factors_of_a_branch_go_into_its_last_linear():
    block = lively(TransformerBlock(8, 2, 12, activation=nn.GELU, layer_scale=True))
    x = noise(2, 5, 8, dtype=torch.float64)
    expected = block(x)
    fold_layer_scales(block)
    assert not any(isinstance(layer, LayerScale) for layer in block.modules())
    torch.testing.assert_close(block(x), expected, **EXACT)


@given(order=st.sampled_from(["rgb", "bgr"]), mean=st.floats(0.1, 0.9), std=st.floats(0.1, 2))
def test_a_patch_convolution_takes_over_any_mean_and_std(order, mean, std):
    model = tiny_model("vit")[0].double()
    preprocessing = Preprocessing(
        image_size=(32, 32), resize_size=32, channel_order=order, mean=(mean, 0.5, 0.2), std=(std, 0.3, 0.4)
    )
    before = input_normalization(preprocessing)
    expected = model(before(image(32, 32)))
    assert isinstance(fold_input_normalization(before, model), nn.Identity)
    torch.testing.assert_close(model(image(32, 32)), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rewrite", [center_residual_streams, scale_residual_streams])
def test_a_stream_that_constants_are_added_to_stays_the_same_to_its_norms(rewrite):
    model, spec = tiny_model("vit", class_position=False)
    model = model.double()
    fold_layer_scales(model)
    pixels = image(*spec.preprocessing.image_size)
    expected, before = model(pixels), model.tokens(pixels)
    rewrite(model)
    torch.testing.assert_close(model(pixels), expected, rtol=1e-11, atol=1e-11)
    after = model.tokens(pixels)
    wanted = before - before.mean(-1, keepdim=True) if rewrite is center_residual_streams else before / 8
    torch.testing.assert_close(after, wanted, **EXACT)


def test_random_tokens_and_positions_are_as_large_as_what_they_are_added_to():
    """Else a network without them would pass all tests of conversions."""
    tokens = randomize(tiny_model("vit")[0], 3).tokens
    assert tokens.prefix.std() > 0.1
    assert tokens.positions.std() > 0.1


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_a_norm_over_maps_goes_into_the_convolution_over_heads(factor):
    mixing = randomize(HeadMixing(4, factor), 0).double().eval()
    maps = noise(2, 4, 5, 7, dtype=torch.float64)
    conv = folded(mixing)
    torch.testing.assert_close(conv(maps), mixing(maps), **EXACT)


@pytest.mark.parametrize("queries", [None, 1])
@pytest.mark.parametrize("product_rank", [3, 4, None])  # None: channels first
def test_mixed_maps_are_the_same_in_every_form_of_attention(product_rank, queries):
    block = randomize(TransformerBlock(16, 4, 12, re_attention=0.5, branch_scale=2.0), 0).double().eval()
    block.attention.num_queries = queries
    x = noise(1, 6, 16, dtype=torch.float64)
    expected = block(x)
    block.attention.mixing = folded(block.attention.mixing)
    fold_layer_scales(block)
    assert block.branch_scale == 1
    if product_rank is None:
        found = ChannelsFirstBlock(block)(x.transpose(1, 2)[:, :, None])[:, :, 0].transpose(1, 2)
    else:
        split_attention(block, product_rank)
        found = block(x)
    torch.testing.assert_close(found, expected, **EXACT)
