"""EfficientViT: the reference form, its sizes and windows, its releases, its rewrites, and its phone files."""

from __future__ import annotations

import importlib
import itertools

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from phone_files import PhoneFile, convert_model
from torch import nn

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.key_maps.efficientvit import LAYOUTS
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS, audit, deploy
from mobilevit_sdk.deployment.cascaded_attention import ExplicitCascadedAttention
from mobilevit_sdk.deployment.fold_batch_norm import fold_batch_norms
from mobilevit_sdk.deployment.fold_classifiers import fold_batch_norm_into_next, fold_classifiers
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import CascadedGroupAttention, PositionBias, SqueezeExcite, StochasticDepth
from mobilevit_sdk.models.efficientvit import EfficientViTConfig, Sandwich, StageConfig
from mobilevit_sdk.models.registry import build_model, model_entry, model_spec, spec_at_size
from mobilevit_sdk.models.resize import resize_network
from mobilevit_sdk.parity.metrics import Agreement, compare
from mobilevit_sdk.spec import ModelSpec, Preprocessing

EXACT = {"rtol": 1e-11, "atol": 1e-11}
# Pixels: with maps of 6x6 and 3x3, all whole windows of 3; with maps of 5x5 and 3x3, of which one is padded.
WHOLE, PADDED = 96, 80
LAYOUT = {layout.release: layout for layout in LAYOUTS}
few = settings(max_examples=25, deadline=None)


def tiny_spec(image_size: int = WHOLE, **options: object) -> ModelSpec:
    """Two stages, in several windows and in one, with a downsampling between: all the blocks, almost no cost."""
    stages = (StageConfig(channels=16, blocks=1, num_heads=2), StageConfig(channels=24, blocks=1, num_heads=3))
    sizes = {"kernels": (5, 3, 1), "window_sizes": (3, 3), "max_window_size": 3, "key_dim": 4, "num_classes": 5}
    config = EfficientViTConfig(stages=stages, **{**sizes, **options})
    preprocessing = Preprocessing(
        image_size=(image_size, image_size), resize_size=image_size, mean=(0.1, 0.05, 0.0), std=(0.9, 1.0, 1.1)
    )
    fields = {"model": "efficientvit_m0", "family": "efficientvit", "config": msgspec.to_builtins(config)}
    return ModelSpec(**fields, preprocessing=preprocessing)


def tiny_model(image_size: int = WHOLE, **options: object) -> tuple[nn.Module, ModelSpec]:
    spec = tiny_spec(image_size, **options)
    return visible_tables(random_checkpoint(spec, 0).model), spec


@torch.no_grad()
def visible_tables(network):
    """Tables as large as the scores that they are added to, so that a wrong bias shows."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, PositionBias):
            layer.table.normal_(generator=generator)
    return network


def attention(dim: int = 12, window: int = 3, kernels: tuple[int, ...] = (5, 3, 1), key_dim: int = 4, seed: int = 0):
    layer = CascadedGroupAttention(dim, window, key_dim=key_dim, kernels=kernels)
    return visible_tables(randomize(layer, seed)).double().eval()


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(
    ("name", "parameters", "distilled", "ten_classes"),
    [
        ("efficientvit_m0", 2_349_436, 2_542_820, 2_158_366),
        ("efficientvit_m1", 2_980_560, 3_173_944, 2_789_490),
        ("efficientvit_m2", 4_187_554, 4_413_002, 3_964_804),
        ("efficientvit_m3", 6_900_722, 7_222_362, 6_582_932),
        ("efficientvit_m4", 8_804_228, 9_189_996, 8_423_078),
        ("efficientvit_m5", 12_473_772, 12_859_540, 12_092_622),
    ],
)
def test_parameter_counts_are_the_published_ones(name, parameters, distilled, ten_classes):
    options = ({}, {"distilled": True}, {"num_classes": 10})
    for count, option in zip((parameters, distilled, ten_classes), options, strict=True):
        with torch.device("meta"):
            assert sum(p.numel() for p in create_model(name, **option).parameters()) == count, option


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


@pytest.mark.parametrize("size", [(WHOLE, WHOLE), (PADDED, PADDED), (112, 81)])
def test_the_configured_size_and_larger_ones_give_scores_that_depend_on_the_image(size):
    model, spec = tiny_model()
    scores = model(noise(3, 3, *size))
    assert scores.shape == (3, spec.num_classes)
    assert (scores[0] - scores[1]).abs().max() > 1e-3


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


def test_batches_give_what_single_images_give():
    model = tiny_model(distilled=True)[0].double()
    images = noise(3, 3, PADDED, WHOLE, dtype=torch.float64)
    torch.testing.assert_close(model(images), torch.cat([model(image[None]) for image in images]), rtol=0, atol=1e-12)


def test_gradients_reach_every_parameter():
    model = tiny_model(distilled=True)[0].train()
    model(noise(4, 3, PADDED, WHOLE)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_a_few_steps_overfit_one_batch():
    torch.manual_seed(0)
    model = build_model(tiny_spec()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    images, labels = noise(8, 3, WHOLE, WHOLE), torch.arange(8) % 5
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1
    assert losses[-1] < 0.05


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


@few
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


@few
@given(
    kernels=st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, max_size=4),
    value_dim=st.integers(1, 5),
    key_dim=st.sampled_from([1, 4, 16]),
    window=st.integers(1, 4),
    extra=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    batch=st.integers(1, 2),
)
def test_explicit_cascaded_attention_is_exact(kernels, value_dim, key_dim, window, extra, batch):
    dim = value_dim * len(kernels)
    layer = attention(dim, window, tuple(kernels), key_dim)
    x = noise(batch, dim, window + extra[0], window + extra[1], dtype=torch.float64)
    expected = layer(x)
    fold_batch_norms(layer)
    torch.testing.assert_close(ExplicitCascadedAttention(layer)(x), expected, **EXACT)


def test_windows_of_one_position_need_no_scores():
    layer = attention(window=1)
    fold_batch_norms(layer)
    program = torch.export.export(ExplicitCascadedAttention(layer), (noise(1, 12, 2, 2, dtype=torch.float64),))
    targets = {str(node.target) for node in program.graph.nodes}
    assert "aten.linear.default" in targets
    assert not targets & {"aten.softmax.int", "aten.bmm.default", "aten.conv2d.default"}


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("size", [(WHOLE, WHOLE), (PADDED, 112), (32, 32)])
def test_the_phone_graph_equals_the_reference_in_float64_and_runs_whole(size, distilled):
    spec = spec_at_size(tiny_spec(distilled=distilled), *size)
    model = visible_tables(random_checkpoint(spec, 0).model).double()
    image = noise(1, 3, *size, dtype=torch.float64)
    expected = model(to_model_input(image, spec.preprocessing))
    for target in sorted(TARGETS):
        graph = deploy(model, target, preprocessing=spec.preprocessing)
        torch.testing.assert_close(graph(image), expected, **EXACT)
        assert audit(graph.float(), target, size) == []


def test_no_tensor_of_the_exported_graph_exceeds_rank_4():
    model, spec = tiny_model(PADDED)
    graph = deploy(model, "litert-cpu", preprocessing=spec.preprocessing)
    program = torch.export.export(graph, (noise(1, 3, PADDED, PADDED),))
    values = [node.meta["val"] for node in program.graph.nodes if hasattr(node.meta.get("val"), "dim")]
    assert max(value.dim() for value in values) == 4


@pytest.mark.parametrize(
    ("format_name", "precision"),
    [("executorch", "fp32"), ("tflite", "fp32"), ("coreml", "fp32"), ("coreml", "fp16")],
)
def test_a_phone_file_answers_as_pytorch_and_runs_whole(format_name, precision, tmp_path):
    converter = importlib.import_module(f"mobilevit_converters.{format_name}").converter
    if not converter.availability():
        pytest.skip(converter.availability().reason)
    file = convert_model(converter, *tiny_model(PADDED, distilled=True), precision, tmp_path)
    answer = next(runtime for runtime in converter.runtimes if runtime.availability()).load(file.path)
    answers = np.stack([answer(case.as_passed()) for case in file.reference.cases])
    agreement = compare(file.reference.logits, answers)
    assert agreement.sqnr_db.worst >= (90 if precision == "fp32" else float16_in_pytorch(file).sqnr_db.worst - 3)
    assert agreement.sqnr_db.median >= 40
    assert agreement.top1_agreement == 1
    found = converter.inspect(file.path)
    assert found.max_rank == 4
    if format_name != "coreml":  # where the device decides
        assert (found.delegates, found.undelegated_ops) == (1, {})


@torch.no_grad()
def float16_in_pytorch(file: PhoneFile) -> Agreement:
    """What float16 costs. The scores of some images lie near 0: random features of different images are alike."""
    graph = file.graph.half()
    images = [torch.from_numpy(case.image)[None].half() / 255 for case in file.reference.cases]
    return compare(file.reference.logits, torch.cat([graph(image) for image in images]).float().numpy())
