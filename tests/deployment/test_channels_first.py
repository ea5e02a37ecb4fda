"""The layout of the Neural Engine: every rewrite is an identity, alone, in float64, and norms do not overflow."""

from __future__ import annotations

import pytest
import torch
from helpers import randomize, sampled
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mobilevit_sdk.deployment import audit, deploy
from mobilevit_sdk.deployment.channels_first import tokens_channels_first
from mobilevit_sdk.deployment.channels_first.attention import ChannelsFirstAttention, attend, transposed_bias
from mobilevit_sdk.deployment.channels_first.cascaded_attention import ChannelsFirstCascadedAttention, WindowedDepthwise
from mobilevit_sdk.deployment.channels_first.norm import ChannelsFirstNorm
from mobilevit_sdk.deployment.channels_first.patches import ChannelsFirstBlock, ChannelsFirstFold, ChannelsFirstUnfold
from mobilevit_sdk.deployment.channels_first.pointwise import PointwiseMLP, convolution
from mobilevit_sdk.deployment.channels_first.pooled import PooledLayerNorm, PooledLinear
from mobilevit_sdk.deployment.channels_first.separable_attention import ChannelsFirstSeparableTransformer
from mobilevit_sdk.deployment.channels_first.windows import ChannelsFirstWindowReverse, ChannelsFirstWindows
from mobilevit_sdk.deployment.fold_batch_norm import fold_batch_norms
from mobilevit_sdk.deployment.residual_scaling import SCALE
from mobilevit_sdk.layers import (
    MLP,
    Attention,
    CascadedGroupAttention,
    Fold,
    PositionBias,
    SeparableTransformer,
    TransformerBlock,
    Unfold,
    WindowPartition,
    WindowReverse,
    WindowTransformer,
)
from mobilevit_sdk.layers.window_transformer import WindowTransformerBlock
from mobilevit_sdk.models.registry import build_model, model_entries, model_spec, spec_at_size
from mobilevit_sdk.spec import ModelSpec, Preprocessing

EXACT = {"rtol": 1e-11, "atol": 1e-11}
PATCHES = {"rows": st.integers(1, 3), "columns": st.integers(1, 4), "patch": st.integers(1, 3)}


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random(layer: nn.Module) -> nn.Module:
    """In float64 and eval mode, with position biases as large as the scores that they are added to."""
    for table in (bias.table for bias in randomize(layer, 1).modules() if isinstance(bias, PositionBias)):
        nn.init.normal_(table, generator=torch.Generator().manual_seed(2))
    return layer.double().eval().requires_grad_(False)


def as_map(rows: torch.Tensor) -> torch.Tensor:
    """[P, N, C] -> [1, C, P, N]."""
    return rows.permute(2, 0, 1)[None]


@given(channels=st.integers(1, 5), out=st.integers(3, 6), first=st.integers(0, 2), bias=st.booleans())
def test_a_convolution_answers_as_rows_of_the_linear_times_the_scale(channels, out, first, bias):
    linear = random(nn.Linear(channels, out, bias=bias))
    x = tensor(2, 4, channels)
    expected = as_map(linear(x)[..., first:] * 0.3)
    torch.testing.assert_close(convolution(linear, slice(first, None), scale=0.3)(as_map(x)), expected, **EXACT)


@given(places=st.integers(1, 4), tokens=st.integers(1, 9), heads=st.sampled_from([1, 2, 4]), head_dim=st.integers(1, 8))
def test_attention_is_exact(places, tokens, heads, head_dim):
    attention = random(Attention(heads * head_dim, heads))
    x = tensor(places, tokens, heads * head_dim)
    torch.testing.assert_close(ChannelsFirstAttention(attention)(as_map(x)), as_map(attention(x)), **EXACT)


@given(windows=st.integers(1, 4), window_size=st.integers(1, 4), heads=st.sampled_from([1, 3]))
def test_attention_with_a_position_bias_is_exact(windows, window_size, heads):
    attention = random(Attention(heads * 4, heads, window_size=window_size))
    x = tensor(windows, window_size**2, heads * 4)
    torch.testing.assert_close(ChannelsFirstAttention(attention)(as_map(x)), as_map(attention(x)), **EXACT)


def test_a_bias_that_is_not_symmetric_belongs_to_its_query_and_key():
    q, k, v = (tensor(1, 5, 3, seed=seed) for seed in range(3))
    bias = tensor(1, 5, 5, seed=3)
    expected = as_map((q @ k.mT + bias).softmax(-1) @ v)
    answer = attend(as_map(q), as_map(k).permute(0, 3, 2, 1), as_map(v), transposed_bias(bias))
    torch.testing.assert_close(answer, expected, **EXACT)


def test_heads_are_slices_and_only_the_keys_are_transposed():
    layer = ChannelsFirstAttention(random(Attention(12, 3, window_size=2))).float()
    program = torch.export.export(layer, (torch.zeros(1, 12, 2, 4),))
    operators = [str(node.target).removeprefix("aten.") for node in program.graph.nodes if node.op == "call_function"]
    assert operators.count("permute.default") == 1
    assert operators.count("einsum.default") == 6
    assert not {"reshape.default", "view.default", "bmm.default", "linear.default"} & set(operators)


@given(channels=st.integers(1, 4), **PATCHES)
def test_patches_are_the_reference_s_with_channels_first(channels, rows, columns, patch):
    x = tensor(1, channels, rows * patch, columns * patch)
    tokens = ChannelsFirstUnfold(patch)(x)
    assert torch.equal(tokens, as_map(Unfold(patch)(x)))
    assert torch.equal(ChannelsFirstFold(patch)(tokens, x.shape), x)


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 3),
    window_size=st.integers(1, 4),
)
def test_windows_are_the_reference_s_with_channels_first(height, width, channels, window_size):
    x = tensor(1, height, width, channels)
    maps = x.permute(0, 3, 1, 2)
    windows = WindowPartition(window_size)(x)
    assert torch.equal(ChannelsFirstWindows(window_size)(maps), as_map(windows))
    answers = tensor(*windows.shape, seed=1)
    expected = WindowReverse(window_size)(answers, x.shape).permute(0, 3, 1, 2)
    assert torch.equal(ChannelsFirstWindowReverse(window_size)(as_map(answers), maps.shape), expected)


@given(channels=st.integers(2, 9), places=st.integers(1, 3), tokens=st.integers(1, 5), affine=st.booleans())
def test_norms_are_exact(channels, places, tokens, affine):
    x = tensor(1, channels, places, tokens) * 3 + 5
    layer = random(nn.LayerNorm(channels, elementwise_affine=affine))
    expected = layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ChannelsFirstNorm(layer)(x), expected, **EXACT)
    whole = random(nn.GroupNorm(1, channels, affine=affine))
    torch.testing.assert_close(ChannelsFirstNorm(whole)(x), whole(x), **EXACT)


def test_a_norm_over_groups_is_refused():
    with pytest.raises(ValueError, match="one group, not 2"):
        ChannelsFirstNorm(nn.GroupNorm(2, 4))


@pytest.mark.parametrize("kind", [nn.LayerNorm, lambda channels: nn.GroupNorm(1, channels)], ids=["layer", "whole"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0, 600.0])  # deviations up to 3 times as large
def test_norms_keep_their_digits_in_float16(kind, scale):
    norm = random(kind(64))
    norm.eps *= SCALE**2
    x = SCALE * (tensor(1, 64, 4, 16).clamp(-3, 3) * scale + scale).half()
    exact = ChannelsFirstNorm(norm)(x.double())
    found = ChannelsFirstNorm(norm).half()(x).double()
    assert 10 * torch.log10(exact.square().sum() / (found - exact).square().sum()) >= 55


@pytest.mark.parametrize("kind", [nn.LayerNorm, lambda channels: nn.GroupNorm(1, channels)], ids=["layer", "whole"])
def test_where_plain_squares_overflow_those_of_a_scaled_stream_do_not(kind):
    """Deviations of 1e3 and more, on a mean of 1e3: unscaled, the variance is infinite and the answer 0."""
    x = (tensor(1, 64, 4, 16).sign() * 1000 + 1000).half()
    norm = random(kind(64))
    exact = norm(x.double().movedim(1, -1)).movedim(-1, 1) if isinstance(norm, nn.LayerNorm) else norm(x.double())
    torch.testing.assert_close(ChannelsFirstNorm(norm)(x.double()), exact, **EXACT)
    plain = ChannelsFirstNorm(norm).half()(x)
    assert (plain - norm.half().bias.view(-1, 1, 1)).abs().max() < 1e-2
    norm.eps *= SCALE**2
    found = ChannelsFirstNorm(norm).half()(SCALE * x)
    torch.testing.assert_close(found.double(), exact, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("kind", [nn.LayerNorm, lambda channels: nn.GroupNorm(1, channels)], ids=["layer", "whole"])
@pytest.mark.parametrize("value", [0.0, 1000.0])  # zeros pad maps to whole windows
def test_tokens_without_any_deviation_become_the_bias_in_float16(kind, value):
    norm = random(kind(64))
    found = ChannelsFirstNorm(norm).half()(torch.full((1, 64, 4, 16), value, dtype=torch.float16))
    assert torch.equal(found, norm.bias.half().view(-1, 1, 1).expand_as(found))


@given(tokens=st.integers(1, 5), activation=st.sampled_from([nn.SiLU, nn.GELU]))
def test_an_mlp_and_a_transformer_block_are_exact(tokens, activation):
    x = tensor(3, tokens, 8)
    mlp = random(MLP(8, 12, activation=activation))
    torch.testing.assert_close(PointwiseMLP(mlp)(as_map(x)), as_map(mlp(x)), **EXACT)
    block = random(TransformerBlock(8, 2, 12))
    torch.testing.assert_close(ChannelsFirstBlock(block)(as_map(x)), as_map(block(x)), **EXACT)


@given(height=st.integers(1, 7), width=st.integers(1, 7), window_size=st.integers(1, 4), depth=st.integers(1, 2))
def test_a_window_transformer_is_exact(height, width, window_size, depth):
    blocks = (WindowTransformerBlock(8, 2, 12, window_size) for _ in range(depth))
    network = random(nn.Sequential(WindowTransformer(*blocks)))
    x = tensor(1, 8, height, width)
    expected = network(x)
    fold_batch_norms(network)
    tokens_channels_first(network)
    assert not any(isinstance(layer, (nn.LayerNorm, nn.Linear)) for layer in network.modules())
    torch.testing.assert_close(network(x), expected, **EXACT)


@given(
    kernels=st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, max_size=4),
    value_dim=st.integers(1, 5),
    key_dim=st.sampled_from([1, 4, 16]),
    window=st.integers(1, 4),
    extra=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_cascaded_attention_is_exact(kernels, value_dim, key_dim, window, extra):
    dim = value_dim * len(kernels)
    attention = random(CascadedGroupAttention(dim, window, key_dim=key_dim, kernels=tuple(kernels)))
    x = tensor(1, dim, window + extra[0], window + extra[1])
    expected = attention(x)
    fold_batch_norms(attention)
    torch.testing.assert_close(ChannelsFirstCascadedAttention(attention)(x), expected, **EXACT)


def test_token_interaction_stays_within_its_window():
    conv = random(nn.Conv2d(2, 2, 3, padding=1, groups=2))
    layer = WindowedDepthwise(conv, 3, 1.0)
    x = tensor(1, 2, 4, 9)
    changed = x.clone()
    changed[:, :, 1] += 1
    apart = (layer(changed) != layer(x)).any(dim=3)[0]
    assert apart.tolist() == [[False, True, False, False]] * 2


@given(dim=st.integers(2, 12), depth=st.integers(0, 2), **PATCHES)
def test_a_separable_transformer_is_exact(dim, depth, rows, columns, patch):
    transformer = random(SeparableTransformer(dim, 2 * dim, depth, patch))
    x = tensor(1, dim, rows * patch, columns * patch) + 1
    torch.testing.assert_close(ChannelsFirstSeparableTransformer(transformer)(x), transformer(x), **EXACT)


@pytest.mark.parametrize("shape", [(2, 6), (2, 3, 6), (1, 2, 3, 6)])
def test_linears_and_layer_norms_answer_as_before_whatever_they_are_given(shape):
    norm, linear = random(nn.LayerNorm(6)), random(nn.Linear(6, 4))
    x = tensor(*shape)
    torch.testing.assert_close(PooledLayerNorm(norm)(x), norm(x), **EXACT)
    torch.testing.assert_close(PooledLinear(linear)(x), linear(x), **EXACT)


class Stranger(nn.Module):
    """A network of other tokens than ours: rows [B, N, C], straight from a map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.block = TransformerBlock(8, 2, 12)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.block(self.stem(image).flatten(2).transpose(1, 2))
        return self.head(self.norm(tokens)[:, 0])


def test_tokens_of_a_layout_of_its_own_stay_right_and_are_named():
    network = random(Stranger())
    preprocessing = Preprocessing(image_size=(8, 12), resize_size=8)
    spec = ModelSpec(model="stranger", family="stranger", config={"num_classes": 5}, preprocessing=preprocessing)
    graph = deploy(network, "coreml-ane", spec)
    image = tensor(1, 3, 8, 12)
    torch.testing.assert_close(graph(image), network(image), **EXACT)
    named = {finding.operator for finding in audit(graph.float(), "coreml-ane", (8, 12))}
    assert {"linear.default", "bmm.default", "layer_norm.default"} <= named


@pytest.mark.parametrize(
    "family", sampled(sorted({entry.family for entry in model_entries()} - {"detr"}), "mobilevit", "vit")
)
def test_a_network_of_each_family_is_channels_first_throughout_and_in_rows_it_is_not(family):
    spec = spec_at_size(model_spec(model_entries(family)[0].name, num_classes=10), 64, 64)
    network = randomize(build_model(spec), 0).eval()
    size = spec.preprocessing.image_size
    assert audit(deploy(network, "coreml-ane", spec), "coreml-ane", size) == []
    rows = audit(deploy(network, "coreml", spec), "coreml-ane", size)
    assert {"linear.default", "bmm.default"} <= {finding.operator for finding in rows}
    reference = audit(network, "coreml-ane", size)
    assert {finding.operator for finding in reference} - {"linear.default"}


def test_layers_between_unfold_and_fold_are_replaced_together():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unfold, self.fold = Unfold(2), Fold(2)
            self.transformer = nn.Sequential(TransformerBlock(8, 2, 12), TransformerBlock(8, 4, 6))
            self.norm = nn.LayerNorm(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fold(self.norm(self.transformer(self.unfold(x))), x.shape)

    network = random(nn.Sequential(Block()))
    x = tensor(1, 8, 4, 6)
    expected = network(x)
    tokens_channels_first(network)
    assert not any(isinstance(layer, (nn.LayerNorm, nn.Linear)) for layer in network.modules())
    torch.testing.assert_close(network(x), expected, **EXACT)
