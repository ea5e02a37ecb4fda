"""Every rewrite is an identity: alone, in float64, on weights that hide nothing."""

from __future__ import annotations

import copy

import pytest
import tiny_networks
import torch
from helpers import randomize, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS, deploy, exported
from mobilevit_sdk.deployment.explicit_attention import ExplicitAttention
from mobilevit_sdk.deployment.fold_batch_norm import fold_batch_norm, fold_batch_norms
from mobilevit_sdk.deployment.fold_norm_affine import fold_affine
from mobilevit_sdk.deployment.input_normalization import Subtraction, fold_input_normalization, input_normalization
from mobilevit_sdk.deployment.matmul_layer_norm import MatmulLayerNorm, RootMeanSquareNorm
from mobilevit_sdk.deployment.mean_centering import center, center_residual_streams
from mobilevit_sdk.deployment.rank4_patches import Rank4Fold, Rank4Unfold
from mobilevit_sdk.deployment.rank4_windows import Rank4WindowPartition, Rank4WindowReverse
from mobilevit_sdk.deployment.residual_depthwise import fold_residual_depthwise
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import (
    Attention,
    ConvNormAct,
    Fold,
    HasNormReaders,
    Residual,
    Unfold,
    WindowPartition,
    WindowReverse,
)
from mobilevit_sdk.layers.traits import residual_streams
from mobilevit_sdk.models.registry import model_entries
from mobilevit_sdk.spec import Preprocessing

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(
    channels=st.sampled_from([4, 6]),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    depthwise=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 10),
)
def test_folding_batch_norm_is_exact(channels, kernel, stride, depthwise, bias, seed):
    groups = channels if depthwise else 1
    conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
    conv, norm = randomize(conv, seed).double(), randomize(nn.BatchNorm2d(channels, eps=1e-3), seed).double().eval()
    x = tensor(2, channels, 7, 8, seed=seed)
    torch.testing.assert_close(fold_batch_norm(conv, norm)(x), norm(conv(x)), **EXACT)


def test_folding_leaves_no_batch_norm():
    network = nn.Sequential(ConvNormAct(3, 4, 3), ConvNormAct(4, 4, 1, activation=None)).eval()
    fold_batch_norms(network)
    assert not [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


@given(
    batch=st.integers(1, 4),
    tokens=st.integers(1, 9),
    heads=st.sampled_from([1, 2, 4]),
    head_dim=st.sampled_from([3, 8]),
    rank=st.sampled_from([3, 4]),
)
def test_explicit_attention_with_split_qkv_and_folded_scale_is_exact(batch, tokens, heads, head_dim, rank):
    attention = randomize(Attention(heads * head_dim, heads), 1).double().eval()
    x = tensor(batch, tokens, heads * head_dim)
    torch.testing.assert_close(ExplicitAttention(attention, rank)(x), attention(x), **EXACT)


@given(
    windows=st.integers(1, 4),
    window_size=st.integers(1, 4),
    heads=st.sampled_from([1, 3]),
    rank=st.sampled_from([3, 4]),
)
def test_explicit_attention_adds_the_position_bias_of_each_head_to_every_window(windows, window_size, heads, rank):
    attention = randomize(Attention(heads * 4, heads, window_size=window_size), 1).double().eval()
    nn.init.normal_(attention.position_bias.table, generator=torch.Generator().manual_seed(0))
    explicit = ExplicitAttention(attention, rank)
    x = tensor(windows, window_size**2, heads * 4)
    torch.testing.assert_close(explicit(x), attention(x), **EXACT)
    assert explicit.bias.numel() == heads * window_size**4  # one constant, however many windows there are


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 3),
    out_channels=st.integers(1, 3),
    window_size=st.integers(1, 4),
)
def test_rank4_windows_move_elements_as_the_reference_does(height, width, channels, out_channels, window_size):
    x = tensor(1, height, width, channels)
    partition, reverse = WindowPartition(window_size), WindowReverse(window_size)
    windows = partition(x)
    assert torch.equal(Rank4WindowPartition(partition)(x), windows)
    answers = tensor(*windows.shape[:2], out_channels)
    assert torch.equal(Rank4WindowReverse(reverse)(answers, x.shape), reverse(answers, x.shape))


@given(channels=st.integers(1, 5), rows=st.integers(1, 4), columns=st.integers(1, 4), patch=st.integers(1, 3))
def test_rank4_patches_move_elements_as_the_reference_does(channels, rows, columns, patch):
    x = tensor(1, channels, rows * patch, columns * patch)
    tokens = Unfold(patch)(x)
    assert torch.equal(Rank4Unfold(Unfold(patch))(x), tokens)
    assert torch.equal(Rank4Fold(Fold(patch))(tokens, x.shape), x)


@given(channels=st.integers(2, 64), scale=st.sampled_from([1e-3, 1.0, 1e3]), offset=st.sampled_from([0.0, 5.0]))
def test_layer_norm_as_matmuls_is_exact(channels, scale, offset):
    norm = randomize(nn.LayerNorm(channels, eps=1e-5), 2).double()
    x = tensor(3, 5, channels) * scale + offset
    torch.testing.assert_close(MatmulLayerNorm(norm)(x), norm(x), rtol=1e-9, atol=1e-9)


@given(
    channels=st.integers(1, 5),
    kernel=st.sampled_from([(1, 1), (3, 3), (5, 5), (7, 7)]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
)
def test_a_residual_around_a_depthwise_convolution_is_one_convolution(channels, kernel, height, width):
    branch = ConvNormAct(channels, channels, kernel[0], groups=channels, activation=None)
    network = randomize(nn.Sequential(Residual(branch, 0.0)), 0).double().eval()
    x = tensor(2, channels, height, width)
    expected = network(x)
    fold_batch_norms(network)
    fold_residual_depthwise(network)
    assert [type(layer) for layer in network.modules()] == [nn.Sequential, nn.Conv2d]
    torch.testing.assert_close(network(x), expected, **EXACT)


@pytest.mark.parametrize(
    "branch",
    [
        ConvNormAct(4, 4, 3, activation=None),
        ConvNormAct(4, 4, 3, groups=4, activation=nn.ReLU),
        nn.Sequential(ConvNormAct(4, 4, 3, groups=4, activation=None)),
    ],
    ids=["mixes channels", "activation", "not a convolution"],
)
def test_a_residual_around_anything_else_stays(branch):
    network = randomize(nn.Sequential(Residual(branch, 0.0)), 0).double().eval()
    expected = network(tensor(1, 4, 5, 5))
    fold_batch_norms(network)
    fold_residual_depthwise(network)
    assert isinstance(network[0], Residual)
    torch.testing.assert_close(network(tensor(1, 4, 5, 5)), expected, **EXACT)


@given(channels=st.integers(2, 9), out=st.integers(1, 5), convolution=st.booleans(), seed=st.integers(0, 5))
def test_a_projection_takes_over_the_gain_and_bias_of_a_norm_exactly(channels, out, convolution, seed):
    if convolution:
        norm, reader, x = nn.GroupNorm(1, channels), nn.Conv2d(channels, out, 1), tensor(2, channels, 3, 4, seed=seed)
    else:
        norm, reader, x = nn.LayerNorm(channels), nn.Linear(channels, out), tensor(2, 5, channels, seed=seed)
    network = randomize(nn.Sequential(norm, reader), seed).double()
    expected = network(x)
    fold_affine(norm, reader)
    assert norm.weight is None
    assert norm.bias is None
    torch.testing.assert_close(network(x), expected, **EXACT)


def test_a_projection_without_bias_cannot_take_over_that_of_a_norm():
    with pytest.raises(ValueError, match="without bias"):
        fold_affine(nn.LayerNorm(3), nn.Linear(3, 2, bias=False))


@given(channels=st.integers(2, 33), scale=st.sampled_from([1e-3, 1.0, 1e3]), offset=st.sampled_from([0.0, 5.0]))
def test_a_layer_norm_of_centered_tokens_is_a_root_mean_square_norm(channels, scale, offset):
    norm = nn.LayerNorm(channels, elementwise_affine=False)
    stem, branch = randomize(nn.Conv1d(7, channels, 1), 0).double(), randomize(nn.Linear(7, channels), 1).double()
    writers = nn.Linear(7, channels, bias=False), branch
    writers[0].weight.data = stem.weight[:, :, 0].detach()
    x, y = tensor(3, 5, 7) * scale + offset, tensor(3, 5, 7, seed=1)
    expected = norm(writers[0](x) + writers[1](y))
    for writer in writers:
        center(writer)
    stream = writers[0](x) + writers[1](y)
    torch.testing.assert_close(RootMeanSquareNorm(norm).double()(stream), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["mobilevit", "mobilevitv2", "tiny_vit", "efficientvit", "vit"])
def test_every_norm_of_our_families_is_declared_by_its_block(family):
    entry = model_entries(family)[0]
    with torch.device("meta"):
        network = create_model(entry.name)
    norms = {layer for layer in network.modules() if isinstance(layer, (nn.LayerNorm, nn.GroupNorm))}
    read = [
        use.norm for block in network.modules() if isinstance(block, HasNormReaders) for use in block.norm_readers()
    ]
    assert len(read) == len(norms)
    assert set(read) == norms
    on_streams = [norm for stream in residual_streams(network) for norm in stream.norms]
    assert len(on_streams) == len(norms)
    assert set(on_streams) == norms
    assert center_residual_streams(network) == (norms if family in ("mobilevit", "vit") else set())


@given(
    order=st.sampled_from(["rgb", "bgr"]),
    mean=st.sampled_from([(0.0, 0.0, 0.0), (0.4, 0.5, 0.6)]),
    std=st.sampled_from([(1.0, 1.0, 1.0), (0.2, 0.3, 0.4)]),
)
def test_preprocessing_in_the_graph_is_the_preprocessing_in_front_of_the_model(order, mean, std):
    preprocessing = Preprocessing(image_size=(4, 5), resize_size=5, channel_order=order, mean=mean, std=std)
    x = tensor(1, 3, 4, 5)
    torch.testing.assert_close(input_normalization(preprocessing)(x), to_model_input(x, preprocessing), **EXACT)


@given(order=st.sampled_from(["rgb", "bgr"]), mean=st.sampled_from([0.0, 0.4]), std=st.sampled_from([1.0, 0.2]))
def test_the_first_convolution_takes_over_the_preprocessing_where_the_mean_is_zero(order, mean, std):
    preprocessing = Preprocessing(
        image_size=(4, 5), resize_size=5, channel_order=order, mean=(mean, mean, mean), std=(std, 2 * std, std)
    )
    model = tiny_model()[0].double()
    x = tensor(1, 3, 32, 32)
    before = input_normalization(preprocessing)
    expected = model(before(x))
    left = fold_input_normalization(before, model)
    assert isinstance(left, nn.Identity) == (mean == 0)
    torch.testing.assert_close(model(left(x)), expected, **EXACT)


@pytest.mark.parametrize("family", ["mobilevit", "mobilevitv2", "tiny_vit", "efficientvit"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_what_remains_of_the_preprocessing_is_a_subtraction_where_the_first_convolution_pads(family, order):
    preprocessing = Preprocessing(
        image_size=(32, 32), resize_size=32, channel_order=order, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
    )
    model, spec = tiny_networks.tiny_model(family)
    model = model.double()
    x = tensor(1, 3, *spec.preprocessing.image_size)
    before = input_normalization(preprocessing)
    expected = model(before(x))
    left = fold_input_normalization(before, model, subtract=True)
    assert isinstance(left, Subtraction)
    torch.testing.assert_close(model(left(x)), expected, **EXACT)


@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("size", [32, 36])  # 36: the attention stage sees 9x9, no multiple of the patch
def test_the_phone_graph_equals_the_reference_in_float64(target, size):
    model, spec = tiny_model(image_size=size)
    model = model.double()
    image = torch.rand(1, 3, size, size, dtype=torch.float64)
    expected = model(to_model_input(image, spec.preprocessing))
    graph = deploy(model, target, spec)
    torch.testing.assert_close(graph(image), expected, rtol=1e-11, atol=1e-11)


def test_deploy_leaves_the_model_as_it_is():
    model, spec = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    deploy(model, "xnnpack", spec)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_no_tensor_of_the_exported_graph_exceeds_rank_4(target):
    model, spec = tiny_model()
    graph = deploy(model, target, spec)
    program = torch.export.export(graph, (torch.rand(1, 3, 32, 32),))
    values = [node.meta["val"] for node in program.graph.nodes if hasattr(node.meta.get("val"), "dim")]
    assert max(value.dim() for value in values) == 4


def test_an_unknown_target_names_the_nearest():
    model, spec = tiny_model()
    with pytest.raises(RequestError, match="did you mean xnnpack"):
        deploy(model, "xnpack", spec)


def test_a_copy_of_a_graph_is_traced_anew():
    model, spec = tiny_model()
    graph = deploy(model, "coreml", spec)
    image = torch.rand(1, 3, 32, 32)
    before = exported(graph, (32, 32)).module()(image)
    other = copy.deepcopy(graph)
    with torch.no_grad():
        other.network.head.bias += 1
    torch.testing.assert_close(exported(other, (32, 32)).module()(image), before + 1)
