"""MobileViTv2: the reference form, the rewrites of its transformer, and its phone files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from phone_files import convert_model
from torch import nn

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS, audit, deploy
from mobilevit_sdk.deployment.fold_norm_affine import fold_affine, fold_norm_affines
from mobilevit_sdk.deployment.global_norm import GlobalNorm, MatmulGlobalNorm
from mobilevit_sdk.deployment.separable_attention_nchw import (
    NCHWSeparableAttention,
    NCHWSeparableTransformer,
    separable_attention_nchw,
)
from mobilevit_sdk.layers import SeparableAttention, SeparableTransformer
from mobilevit_sdk.models.mobilevit import StageConfig
from mobilevit_sdk.models.mobilevitv2 import MobileViTv2Config
from mobilevit_sdk.models.registry import build_model, model_spec, spec_at_size
from mobilevit_sdk.parity.metrics import compare
from mobilevit_sdk.spec import ModelSpec, Preprocessing

WHOLE, ODD = 32, 36  # pixels: whose attention stage sees 8x8; whose attention stage sees 9x9, no multiple of the patch
few = settings(max_examples=25, deadline=None)


def tiny_spec(image_size: int = WHOLE, depth: int = 2, **options: Any) -> ModelSpec:
    """Two stages, one of them with attention: all the blocks, almost no cost."""
    config = MobileViTv2Config(
        **{
            "stages": (
                StageConfig(channels=8, blocks=2, stride=1),
                StageConfig(channels=12, blocks=1, stride=2, dim=16, mlp_dim=24, depth=depth),
            ),
            "stem_channels": 8,
            "num_classes": 5,
            **options,
        }
    )
    preprocessing = Preprocessing(
        image_size=(image_size, image_size),
        resize_size=image_size,
        channel_order="bgr",
        mean=(0.4, 0.45, 0.5),
        std=(0.22, 0.23, 0.25),
    )
    return ModelSpec(
        model="mobilevitv2_050",
        family="mobilevitv2",
        config=msgspec.to_builtins(config),
        preprocessing=preprocessing,
    )


def tiny_model(image_size: int = WHOLE, **options: Any) -> tuple[nn.Module, ModelSpec]:
    spec = tiny_spec(image_size, **options)
    return randomize(build_model(spec), 0).eval(), spec


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mobilevitv2_050", 1_370_593),
        ("mobilevitv2_075", 2_866_009),
        ("mobilevitv2_100", 4_901_841),
        ("mobilevitv2_125", 7_478_089),
        ("mobilevitv2_150", 10_594_753),
        ("mobilevitv2_175", 14_251_833),
        ("mobilevitv2_200", 18_449_329),
    ],
)
def test_parameter_counts_are_the_published_ones(name, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model(name).parameters()) == parameters


@pytest.mark.parametrize("size", [(4, 4), (32, 32), (36, 52), (33, 71)])
def test_any_image_size_gives_scores_that_depend_on_the_image(size):
    model, spec = tiny_model()
    scores = model(torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(1)))
    assert scores.shape == (3, spec.num_classes)
    assert (scores[0] - scores[1]).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(32, 32), (36, 44)])
def test_batches_give_what_single_images_give(size):
    model = tiny_model()[0].double()
    images = torch.rand(3, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(model(images), torch.cat([model(image[None]) for image in images]), rtol=0, atol=1e-12)


def test_gradients_reach_every_parameter():
    model = tiny_model()[0].train()
    model(torch.rand(4, 3, ODD, ODD)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_a_few_steps_overfit_one_batch():
    torch.manual_seed(0)
    model = build_model(tiny_spec()).train()
    images, labels = torch.rand(10, 3, WHOLE, WHOLE), torch.arange(10) % 5
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert torch.equal(model(images).argmax(1), labels)


@pytest.mark.parametrize("option", ["dropout", "attention_dropout", "mlp_dropout"])
def test_stochastic_options_act_in_training_alone(option):
    model = randomize(build_model(tiny_spec(**{option: 0.2})), 0).train()
    x = torch.rand(8, 3, WHOLE, WHOLE)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


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


@few
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


@few
@given(
    dim=st.integers(2, 12),
    depth=st.integers(0, 2),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    patch_size=st.integers(1, 3),
)
def test_transformer_on_maps_is_exact(dim, depth, rows, columns, patch_size):
    """Also where a patch is a pixel, where all pixels are one patch, and where their number is odd."""
    transformer = SeparableTransformer(dim, 2 * dim, depth, patch_size)
    network = randomize(nn.Sequential(transformer, nn.Conv2d(dim, 3, 1)), 1).double().eval()
    x = tensor(1, dim, rows * patch_size, columns * patch_size) + 1
    expected = network(x)
    fold_norm_affines(network)
    fold_affine(transformer.norm, network[1])
    network[0] = NCHWSeparableTransformer(transformer, (rows * patch_size, columns * patch_size))
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
    separable_attention_nchw(network, (24, 16))
    assert network[1].places.shape == (2, 4, 12 * 8 // 2)
    assert network[3].places.shape == (2, 1, 6 * 4 // 2)
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
    attention(torch.randn(1, 6, 10, 10), torch.ones(2, 4, 50))
    assert taken == [(1, 4, 6)]


@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("size", [4, WHOLE, ODD])  # 4: the attention stage sees 1x1, resized to one patch
def test_the_phone_graph_equals_the_reference_in_float64(target, size):
    model, spec = tiny_model(size)
    model = model.double()
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = model(to_model_input(image, spec.preprocessing))
    scores = deploy(model, target, preprocessing=spec.preprocessing)(image)
    assert relative_difference(scores, expected) <= 1e-11


@torch.inference_mode()
@pytest.mark.parametrize("target", ["litert-cpu", "xnnpack"])  # the norm as one operator, and as matrix products
@pytest.mark.parametrize("width", ["050", "075", "100", "125", "150", "175", "200"])
def test_the_phone_graph_of_every_variant_is_exact_where_maps_are_odd(width, target):
    spec = spec_at_size(model_spec(f"mobilevitv2_{width}"), 80, 80)  # maps of 10x10, 5x5 and 3x3
    model = random_checkpoint(spec, 0).model.double()
    image = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = deploy(model, target, preprocessing=spec.preprocessing)(image)
    assert relative_difference(scores, model(image)) <= 1e-11


@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("size", [WHOLE, ODD])
def test_every_target_takes_the_whole_graph_at_rank_4(target, size):
    model, spec = tiny_model(size)
    graph = deploy(model, target, preprocessing=spec.preprocessing)
    assert audit(graph, target, (size, size)) == []
    program = torch.export.export(graph, (torch.rand(1, 3, size, size),))
    values = [node.meta["val"] for node in program.graph.nodes if hasattr(node.meta.get("val"), "dim")]
    assert max(value.dim() for value in values) == 4


FORMATS = [("executorch", "fp32", 90), ("tflite", "fp32", 90), ("coreml", "fp32", 90), ("coreml", "fp16", 40)]


def runs_whole_and_as_pytorch(
    model: nn.Module, spec: ModelSpec, format_name: str, precision: str, sqnr_db: float, folder: Path
) -> None:
    converter = importlib.import_module(f"mobilevit_converters.{format_name}").converter
    runtime = next((runtime for runtime in converter.runtimes if runtime.availability()), None)
    if not converter.availability() or runtime is None:
        pytest.skip(f"no toolchain for {format_name}")
    file = convert_model(converter, model, spec, precision, folder)
    found = converter.inspect(file.path)
    assert found.max_rank == 4
    if format_name != "coreml":  # where the device decides
        assert (found.delegates, found.undelegated_ops) == (1, {})
    answer = runtime.load(file.path)
    logits = np.stack([answer(case.as_passed()) for case in file.reference.cases])
    agreement = compare(file.reference.logits, logits)
    assert agreement.sqnr_db.worst >= sqnr_db
    assert agreement.top1_agreement == 1


@pytest.mark.parametrize(("format_name", "precision", "sqnr_db"), FORMATS)
def test_a_phone_file_answers_as_pytorch_and_runs_whole(format_name, precision, sqnr_db, tmp_path):
    runs_whole_and_as_pytorch(*tiny_model(ODD, depth=1), format_name, precision, sqnr_db, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["executorch", "tflite", "coreml"])
def test_mobilevitv2_050_answers_as_pytorch_and_runs_whole(format_name, tmp_path):
    """In float32 alone: at full depth these weights leave 39 dB of SQNR where PyTorch itself rounds all to float16."""
    spec = spec_at_size(model_spec("mobilevitv2_050", num_classes=10), 96, 96)  # the last stage sees 3x3
    runs_whole_and_as_pytorch(randomize(build_model(spec), 0).eval(), spec, format_name, "fp32", 90, tmp_path)
