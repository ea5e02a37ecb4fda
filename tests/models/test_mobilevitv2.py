"""MobileViTv2: the reference form, the rewrites of its transformer, and its phone files."""

from __future__ import annotations

from functools import partial

import pytest
import tiny_networks
import torch
import torch.nn.functional as F
from helpers import randomize
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mobilevit_sdk.deployment.fold_norm_affine import fold_affine, fold_norm_affines
from mobilevit_sdk.deployment.global_norm import GlobalNorm, MatmulGlobalNorm
from mobilevit_sdk.deployment.separable_attention_nchw import (
    NCHWSeparableAttention,
    NCHWSeparableTransformer,
    separable_attention_nchw,
)
from mobilevit_sdk.layers import SeparableAttention, SeparableTransformer

tiny_model = partial(tiny_networks.tiny_model, "mobilevitv2")
WHOLE, ODD = 32, 36  # pixels: whose attention stage sees 8x8; whose attention stage sees 9x9, no multiple of the patch


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_attention_weighs_the_keys_of_each_place_by_a_softmax_over_the_patches():
    attention = randomize(SeparableAttention(6), 0).double()
    x = tensor(2, 6, 4, 5)
    (q, k, v), bias = attention.qkv.weight.flatten(1).split((1, 6, 6)), attention.qkv.bias.split((1, 6, 6))
    for image in range(2):
        for place in range(4):
            tokens = x[image, :, place]  # [C, N]
            scores = (q @ tokens + bias[0]).squeeze(0).softmax(0)
            context = sum(scores[n] * (k @ tokens[:, n] + bias[1]) for n in range(5))
            mixed = F.relu(v @ tokens + bias[2][:, None]) * context[:, None]
            expected = attention.proj.weight.flatten(1) @ mixed + attention.proj.bias[:, None]
            torch.testing.assert_close(attention(x)[image, :, place], expected, rtol=0, atol=1e-12)


def test_places_of_a_patch_do_not_attend_to_each_other():
    """A pixel moves the attention of the pixels at the same place of all patches, and of no other."""
    seen: list[torch.Tensor] = []
    transformer = randomize(SeparableTransformer(4, 8, 1, 2), 0).double()
    transformer.blocks[0].norm1 = nn.Identity()  # which would spread any change over the image
    transformer.blocks[0].attention.register_forward_hook(lambda layer, given, out: seen.append(out))
    x = tensor(1, 4, 6, 8)
    moved = x.clone()
    moved[0, :, 3, 4] += 1  # row 1 and column 0 of its patch: place 2
    transformer(x), transformer(moved)
    changed = (seen[0] != seen[1]).any(1)[0]  # [P, N]
    assert changed.tolist() == [[False] * 12, [False] * 12, [True] * 12, [False] * 12]


def test_sizes_between_patches_are_resized_up_with_aligned_corners_and_stay():
    """At 36 pixels the attention stage sees 9x9 and must compute on 10x10: the same as resizing by hand."""
    block = tiny_model()[0].stages[1][1]
    x = torch.randn(1, 12, 9, 9)
    up = F.interpolate(x, (10, 10), mode="bilinear", align_corners=True)
    assert block(x).shape == (1, 12, 10, 10)
    assert torch.equal(block(x), block(up))


@given(
    channels=st.integers(2, 64),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    offset=st.sampled_from([0.0, 5.0]),
)
def test_whole_norm_in_both_forms_is_group_norm_with_one_group(channels, height, width, scale, offset):
    x = tensor(1, channels, height, width) * scale + offset
    expected = F.group_norm(x, 1, eps=1e-5)
    norm = GlobalNorm(nn.GroupNorm(1, channels, affine=False))
    torch.testing.assert_close(norm(x), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(MatmulGlobalNorm(norm)(x), expected, rtol=1e-9, atol=1e-9)


@given(
    dim=st.integers(2, 12),
    depth=st.integers(0, 2),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    patch_size=st.integers(1, 3),
    rank=st.sampled_from([3, 4]),
)
def test_transformer_on_maps_is_exact(dim, depth, rows, columns, patch_size, rank):
    """Also where a patch is a pixel, where all pixels are one patch, and where their number is odd."""
    transformer = SeparableTransformer(dim, 2 * dim, depth, patch_size)
    network = randomize(nn.Sequential(transformer, nn.Conv2d(dim, 3, 1)), 1).double().eval()
    x = tensor(1, dim, rows * patch_size, columns * patch_size) + 1
    expected = network(x)
    fold_norm_affines(network)
    fold_affine(transformer.norm, network[1])
    network[0] = NCHWSeparableTransformer(transformer, (rows * patch_size, columns * patch_size), rank)
    torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-10)


@torch.inference_mode()
def test_every_transformer_is_made_for_the_map_that_it_gets():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1),
        SeparableTransformer(4, 8, 1, 2),
        nn.Conv2d(4, 6, 3, 2, 1),
        SeparableTransformer(6, 8, 1, 1),
    )
    for layer in (network[1], network[3]):
        for norm in (layer.norm, layer.blocks[0].norm1, layer.blocks[0].norm2):
            norm.register_parameter("weight", None)
            norm.register_parameter("bias", None)
    separable_attention_nchw(network, (24, 16), product_rank=4)
    assert network[1].places.shape == (1, 1, 4, 12 * 8)
    assert network[3].places.shape == (1, 1, 1, 6 * 4)
    assert network.double()(tensor(1, 3, 24, 16)).shape == (1, 6, 6, 4)
    assert not any(layer._forward_pre_hooks for layer in network.modules())


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 4), nn.GroupNorm(2, 4, affine=False)], ids=["gain", "two groups"])
def test_a_norm_over_everything_refuses_what_it_would_drop(norm):
    with pytest.raises(ValueError, match="one group, and neither gain nor bias"):
        GlobalNorm(norm)


def test_key_takes_one_pixel_for_each_place():
    attention = NCHWSeparableAttention(SeparableAttention(6), patch_size=2)
    taken: list[torch.Size] = []
    attention.k.register_forward_hook(lambda layer, given, out: taken.append(given[0].shape))
    attention(torch.randn(1, 6, 10, 10), torch.ones(1, 1, 4, 100))
    assert taken == [(1, 4, 6)]
