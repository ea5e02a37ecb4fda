"""EfficientViT: the reference form, its sizes and windows, its releases, its rewrites, and its phone files."""

from __future__ import annotations

import itertools
from functools import partial

import msgspec
import pytest
import tiny_networks
import torch
from helpers import randomize
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import noise, visible_tables
from torch import nn

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.key_maps.efficientvit import LAYOUTS
from mobilevit_sdk.deployment.cascaded_attention import ExplicitCascadedAttention
from mobilevit_sdk.deployment.fold_batch_norm import fold_batch_norms
from mobilevit_sdk.deployment.fold_classifiers import fold_batch_norm_into_next, fold_classifiers
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import CascadedGroupAttention, PositionBias, SqueezeExcite, StochasticDepth
from mobilevit_sdk.models.efficientvit import EfficientViTConfig, Sandwich, StageConfig
from mobilevit_sdk.models.registry import build_model, model_entry, model_spec, spec_at_size
from mobilevit_sdk.models.resize import resize_network

tiny_spec = partial(tiny_networks.tiny_spec, "efficientvit")
tiny_model = partial(tiny_networks.tiny_model, "efficientvit")
EXACT = {"rtol": 1e-11, "atol": 1e-11}
# Pixels: with maps of 6x6 and 3x3, all whole windows of 3; with maps of 5x5 and 3x3, of which one is padded.
WHOLE, PADDED = 96, 80
LAYOUT = {layout.release: layout for layout in LAYOUTS}


def attention(dim: int = 12, window: int = 3, kernels: tuple[int, ...] = (5, 3, 1), key_dim: int = 4, seed: int = 0):
    layer = CascadedGroupAttention(dim, window, key_dim=key_dim, kernels=kernels)
    return visible_tables(randomize(layer, seed)).double().eval()


@pytest.mark.parametrize(
    ("size", "windows"),
    [
        ((224, 224), (7, 7, 4)),
        ((256, 256), (7, 7, 4)),
        ((384, 384), (7, 7, 6)),
        ((512, 512), (7, 7, 7)),
        ((640, 384), (7, 7, 6)),
        ((65, 400), (5, 3, 2)),
        ((64, 64), (4, 2, 1)),
    ],
)
def test_windows_are_the_shorter_side_of_their_map_up_to_the_published_size(size, windows):
    config = model_entry("efficientvit_m0").config
    for start in (config, config.at_image_size(64, 64), config.at_image_size(512, 512)):
        assert start.at_image_size(*size).window_sizes == windows


def test_an_image_that_does_not_fill_the_windows_is_refused_with_the_remedy():
    model, spec = tiny_model()
    with pytest.raises(ValueError, match=r"map of 2x6 does not fill a window of 3x3; .*resize_network"):
        model(noise(1, 3, 32, 96))
    resized, _ = resize_network(model, spec, 32, 96)
    assert resized(noise(1, 3, 32, 96)).isfinite().all()
    with pytest.raises(RequestError, match="smaller than the network's total stride of 64"):
        spec_at_size(model_spec("efficientvit_m0"), 63, 400)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_sizes": (7, 7)}, "2 window_sizes for 3 stages"),
        ({"window_sizes": (7, 7, 33)}, "window_sizes"),
        ({"kernels": (5, 5, 5)}, "3 kernels for 4 heads"),
        ({"kernels": (5, 4, 3, 3)}, "kernels must be odd"),
        ({"stages": (StageConfig(channels=64, blocks=1, num_heads=3),), "window_sizes": (7,)}, "64 is not divisible"),
        ({"stochastic_depth": 1.0}, "stochastic depth"),
    ],
)
def test_a_config_that_describes_no_network_is_refused(options, message):
    config = {**model_spec("efficientvit_m0").config, **msgspec.to_builtins(options)}
    with pytest.raises(RequestError, match=message):
        build_model(msgspec.structs.replace(model_spec("efficientvit_m0"), config=config))


def test_training_starts_from_blocks_that_are_the_identity():
    first, downsample, second = (m for m in build_model(tiny_spec()).eval().modules() if isinstance(m, Sandwich))
    x = noise(2, 16, 6, 6)
    assert torch.equal(first(x), x)
    assert downsample(x).shape == (2, 24, 3, 3)
    assert not torch.equal(downsample.dw0(x), x)  # as in the official code, the gains beside it are 1
    assert torch.equal(second(downsample(x)), downsample(x))


def test_stochastic_depth_acts_on_every_residual_in_training_alone():
    model, _ = tiny_model(stochastic_depth=0.4)
    images = noise(8, 3, WHOLE, WHOLE)
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))
    assert [layer.p for layer in model.modules() if isinstance(layer, StochasticDepth)] == [0.4] * (5 + 4 + 5)


def test_each_head_hears_the_heads_before_it_and_none_behind():
    layer = attention()
    layer.proj = nn.Identity()
    x = noise(1, 12, 3, 3, dtype=torch.float64)
    for group in range(3):
        other = x.clone()
        other[:, 4 * group : 4 * group + 4] += noise(1, 4, 3, 3, seed=1, dtype=torch.float64)
        changed = (layer(other) - layer(x)).abs().amax((0, 2, 3)).view(3, 4).amax(1) > 1e-9
        assert changed.tolist() == [head >= group for head in range(3)]


def test_a_window_is_attended_to_by_itself_alone_token_interaction_included():
    layer = attention(kernels=(5, 5, 5))
    x = noise(1, 12, 6, 6, dtype=torch.float64)
    other = x.clone()
    other[:, :, :3, 3:] += 1
    changed = (layer(other) - layer(x)).abs().amax((0, 1)) > 1e-9
    assert changed[:3, 3:].all()
    assert changed.sum() == 9


def test_zeros_that_pad_a_map_to_whole_windows_take_part_in_attention():
    layer = attention()
    x = noise(2, 12, 4, 5, dtype=torch.float64)
    padded = torch.zeros(2, 12, 6, 6, dtype=torch.float64)
    padded[:, :, :4, :5] = x
    torch.testing.assert_close(layer(x), layer(padded)[:, :, :4, :5], **EXACT)


def test_squeeze_excite_scales_channels_by_a_gate_of_their_means():
    layer = randomize(SqueezeExcite(6, 3), 0)
    x = noise(2, 6, 4, 5) - 0.5
    hidden = (x.mean((2, 3)) @ layer.fc1.weight.view(3, 6).T + layer.fc1.bias).clamp(min=0)
    gate = 1 / (1 + torch.exp(-(hidden @ layer.fc2.weight.view(6, 3).T + layer.fc2.bias)))
    torch.testing.assert_close(layer(x), x * gate[:, :, None, None])


@pytest.mark.parametrize(("channels", "squeezed"), [(64, 64), (12, 16), (11, 8), (2, 8)])
def test_a_downsampling_squeezes_to_a_quarter_in_multiples_of_eight(channels, squeezed):
    stages = (StageConfig(channels=channels, blocks=1, num_heads=1), StageConfig(channels=8, blocks=1, num_heads=1))
    (widths,) = EfficientViTConfig(stages=stages, kernels=(3,), window_sizes=(1, 1)).explicit().widths.downsample
    assert (widths.squeezed, widths.hidden) == (squeezed, 4 * channels)


def test_a_distilled_network_answers_with_the_mean_of_its_classifiers():
    model, scores = tiny_model(distilled=True)[0], {}
    for name in ("linear", "linear_dist"):
        model.get_submodule(f"head.{name}").register_forward_hook(
            lambda _, __, out, name=name: scores.update({name: out})
        )
    mean = model(noise(2, 3, WHOLE, WHOLE))
    assert (scores["linear"] - scores["linear_dist"]).abs().max() > 0.1
    torch.testing.assert_close(mean, (scores["linear"] + scores["linear_dist"]) / 2)


def test_a_resized_network_has_interpolated_tables_and_all_other_weights():
    model, spec = tiny_model(32, window_sizes=(2, 1))
    resized, resized_spec = resize_network(model, spec, 80, 96)
    assert resized_spec.config["window_sizes"] == [3, 3]
    assert resized_spec.preprocessing.image_size == (80, 96)
    for name, tensor in resized.state_dict().items():
        old = model.state_dict()[name]
        if name.endswith("table"):
            old = model.get_submodule(name.removesuffix(".table")).resized_table(3)
            assert old.shape == (tensor.shape[0], 9)
        assert torch.equal(tensor, old), name
    assert resized(noise(1, 3, 80, 96)).isfinite().all()


@pytest.mark.parametrize(
    ("release", "size", "described"),
    [
        ("cream", 224, "shorter side to 256 (bicubic), center 224x224"),
        ("cream", 384, "squashed to 384x384 (bicubic)"),
        ("cream", 512, "squashed to 512x512 (bicubic)"),
        ("timm", 224, "shorter side to 256 (bicubic), center 224x224"),
        ("timm", 384, "shorter side to 438 (bicubic), center 384x384"),
        ("timm", 512, "shorter side to 585 (bicubic), center 512x512"),
    ],
)
@pytest.mark.parametrize("distilled", [False, True])
def test_a_file_tells_its_classifiers_and_its_windows_and_so_its_preprocessing(release, size, described, distilled):
    layout, config = LAYOUT[release], model_entry("efficientvit_m1").config.at_image_size(size, size)
    with torch.device("meta"):
        tensors = create_model("efficientvit_m1", window_sizes=config.window_sizes, distilled=distilled).state_dict()
    sources = layout.sources(config, tensors)
    options = layout.options({theirs: tensors[ours] for ours, (theirs,) in sources.items()})
    assert options == {"distilled": distilled, "window_sizes": config.window_sizes, "max_window_size": 7}
    found = layout.preprocessing(model_spec("efficientvit_m1", **options))
    assert found.describe().startswith(f"{described}, RGB, mean [0.485, 0.456, 0.406], std [0.229")
    resized = spec_at_size(model_spec("efficientvit_m1", **options), *found.image_size)
    assert resized.config["window_sizes"] == list(config.window_sizes)


@pytest.mark.parametrize("shape", [(4, 48), (4,), (4, 0), (4, 33**2), (4, 7, 7)])
def test_a_table_of_no_square_window_says_nothing(shape):
    tables = {f"stages.{i}.blocks.0.mixer.m.attn.attention_biases": torch.zeros(4, 49) for i in range(3)}
    tables["stages.2.blocks.0.mixer.m.attn.attention_biases"] = torch.zeros(shape)
    assert LAYOUT["timm"].options(tables) == {"distilled": False}


@pytest.mark.parametrize("window", [1, 4, 7])
def test_our_index_is_the_one_that_cream_keeps(window):
    offsets: dict[tuple[int, int], int] = {}
    places = list(itertools.product(range(window), repeat=2))
    # Numbered as they first occur.
    theirs = [offsets.setdefault((abs(a - c), abs(b - d)), len(offsets)) for a, b in places for c, d in places]
    assert PositionBias(2, window).index.flatten().tolist() == theirs
    ours = LAYOUT["cream"].derived(model_entry("efficientvit_m0").config).values()
    with torch.device("meta"):
        network = create_model("efficientvit_m0")
    assert set(ours) == {name for name, _ in network.named_buffers() if name.endswith(".index")}


@given(features=st.integers(1, 9), classes=st.integers(1, 7), seed=st.integers(0, 10))
def test_folding_a_batch_norm_into_the_linear_after_it_is_exact(features, classes, seed):
    norm, linear = (
        randomize(nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, classes)), seed).double().eval()
    )
    x = noise(3, features, seed=seed, dtype=torch.float64)
    torch.testing.assert_close(fold_batch_norm_into_next(norm, linear)(x), linear(norm(x)), **EXACT)


@pytest.mark.parametrize("distilled", [False, True])
def test_folding_the_classifiers_is_exact_and_leaves_one_linear(distilled):
    model = tiny_model(distilled=distilled)[0].double()
    images = noise(2, 3, WHOLE, WHOLE, dtype=torch.float64)
    expected = model(images)
    fold_classifiers(model)
    torch.testing.assert_close(model(images), expected, **EXACT)
    behind = [name for name, _ in model.named_parameters() if name.startswith(("norm", "head"))]
    assert behind == ["head.weight", "head.bias"]


@given(
    kernels=st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, max_size=4),
    value_dim=st.integers(1, 5),
    key_dim=st.sampled_from([1, 4, 16]),
    window=st.integers(1, 4),
    extra=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    batch=st.integers(1, 2),
    rank=st.sampled_from([3, 4]),
)
def test_explicit_cascaded_attention_is_exact(kernels, value_dim, key_dim, window, extra, batch, rank):
    dim = value_dim * len(kernels)
    layer = attention(dim, window, tuple(kernels), key_dim)
    x = noise(batch, dim, window + extra[0], window + extra[1], dtype=torch.float64)
    expected = layer(x)
    fold_batch_norms(layer)
    torch.testing.assert_close(ExplicitCascadedAttention(layer, rank)(x), expected, **EXACT)


def test_windows_of_one_position_need_no_scores():
    layer = attention(window=1)
    fold_batch_norms(layer)
    program = torch.export.export(ExplicitCascadedAttention(layer, 4), (noise(1, 12, 2, 2, dtype=torch.float64),))
    targets = {str(node.target) for node in program.graph.nodes}
    assert "aten.linear.default" in targets
    assert not targets & {"aten.softmax.int", "aten.einsum.default", "aten.conv2d.default"}
