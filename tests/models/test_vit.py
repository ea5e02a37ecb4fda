"""ViT and DeiT: tokens, heads, sizes, and what training leaves alone."""

from __future__ import annotations

import copy
from functools import partial

import msgspec
import pytest
import tiny_networks
import torch
import torch.nn.functional as F
from family_contract import check_graph
from tiny_networks import noise

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.deployment import TARGETS
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers.traits import HasNoDecay
from mobilevit_sdk.models.catalog import catalog
from mobilevit_sdk.models.registry import build_model, model_entries, model_spec, spec_at_size
from mobilevit_sdk.models.resize import resize_network
from mobilevit_sdk.spec import MemoryTask

tiny_model = partial(tiny_networks.tiny_model, "vit")

MACS = {
    "vit_tiny_patch16_224": 1_253_683_200,
    "vit_tiny_patch16_384": 4_682_219_520,
    "vit_small_patch32_224": 1_142_909_952,
    "vit_base_patch8_224": 78_148_337_664,
    "deit_tiny_distilled_patch16_224": 1_261_003_776,
    "deit3_medium_patch16_224": 7_990_968_320,
}


@pytest.mark.parametrize("name", MACS)
def test_costs_are_those_that_timm_has(name: str) -> None:
    (entry,) = [entry for entry in catalog("vit") if entry.model == name]
    assert entry.macs == MACS[name]


@pytest.mark.parametrize("entry", model_entries("vit"), ids=lambda entry: entry.name)
def test_a_variant_s_name_says_its_image_its_patch_and_its_mean(entry) -> None:
    height, width = entry.info.preprocessing.image_size
    assert entry.config.image_size == (height, width)
    assert entry.name.endswith(f"patch{entry.config.patch_size}_{height}")
    assert height == width
    assert (entry.info.preprocessing.mean == (0.5, 0.5, 0.5)) == entry.name.startswith("vit_")
    assert entry.config.dim == 64 * entry.config.num_heads


@torch.inference_mode()
def test_a_distilled_network_answers_with_the_mean_of_its_heads() -> None:
    model, spec = tiny_model()
    images = noise(2, 3, *spec.preprocessing.image_size)
    x = model.norm(model.blocks(model.tokens(images)))
    first, second = F.linear(x[:, 0], *model.head.linear.parameters()), model.head.linear_dist(x[:, 1])
    assert (first - second).abs().max() > 0.1
    torch.testing.assert_close(model(images), (first + second) / 2)


@torch.inference_mode()
def test_tokens_stand_in_the_order_of_the_releases() -> None:
    """Class token, distillation token, patches row by row; a token without a position stays as it was learned."""
    model, _ = tiny_model(class_position=False)
    image = noise(1, 3, 32, 32)
    tokens = model.tokens(image)
    assert torch.equal(tokens[0, :2], model.tokens.prefix[:, 0])
    row, column = 1, 2
    patch = model.tokens.conv(image[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]).flatten()
    number = 4 * row + column
    torch.testing.assert_close(tokens[0, 2 + number], patch + model.tokens.positions[0, number])


@pytest.mark.parametrize("size", [(40, 36), (230, 224)])
def test_an_image_that_is_not_whole_patches_is_refused(size: tuple[int, int]) -> None:
    spec = tiny_model()[1] if size[0] == 40 else model_spec("vit_tiny_patch16_224")
    with pytest.raises(RequestError, match=rf"images of {size[0]}x{size[1]} are not whole patches of (8|16) pixels"):
        spec_at_size(spec, *size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, "dim 192 is not divisible by num_heads 5"),
        ({"distillation_head": True}, "a distillation_head reads a distillation_token"),
        (
            {"distillation_head": True, "distillation_token": True, "representation_dim": 8},
            "representation_dim is of networks without one",
        ),
        ({"image_size": (30, 32)}, "not whole patches"),
        ({"stochastic_depth": 1.0}, "stochastic depth"),
    ],
)
def test_a_config_that_describes_no_network_is_refused(options: dict, message: str) -> None:
    with pytest.raises((RequestError, ValueError), match=message):
        create_model("vit_tiny_patch16_224", **options)


@torch.inference_mode()
def test_a_resized_network_answers_as_the_first_does_at_that_size() -> None:
    model, spec = tiny_model()
    for height, width in ((64, 48), (16, 40)):
        resized, resized_spec = resize_network(model, spec, height, width)
        assert resized_spec.config["image_size"] == [height, width]
        assert resized.tokens.positions.shape == (1, 2 + height * width // 64, 16)
        image = noise(1, 3, height, width)
        assert torch.equal(resized(image), model(image))
        assert torch.equal(resized.tokens.positions[:, :2], model.tokens.positions[:, :2])


@torch.inference_mode()
def test_features_are_normalized_tokens() -> None:
    model, _ = tiny_model()
    images = noise(2, 3, 32, 40)
    x = model.norm(model.blocks(model.tokens(images)))
    for kind, expected in (("pooled", x[:, :2].mean(1)), ("map", x[:, 2:].transpose(1, 2).reshape(2, 16, 4, 5))):
        features = tiny_model()[0]
        features.return_features(kind)
        torch.testing.assert_close(features(images), expected)


@torch.inference_mode()
def test_pre_logits_are_the_pooled_features_and_no_part_of_the_map() -> None:
    pooled, spec = tiny_model(distillation_head=False, distillation_token=False, representation_dim=12)
    x = pooled.norm(pooled.blocks(pooled.tokens(noise(2, 3, 32, 32))))
    representation = F.linear(x[:, 0], *pooled.pre_logits.linear.parameters()).tanh()
    torch.testing.assert_close(pooled(noise(2, 3, 32, 32)), pooled.head.linear(representation))
    mapped = copy.deepcopy(pooled)
    pooled.return_features("pooled")
    torch.testing.assert_close(pooled(noise(2, 3, 32, 32)), representation)
    mapped.return_features("map")
    torch.testing.assert_close(mapped(noise(2, 3, 32, 32)), x[:, 1:].transpose(1, 2).reshape(2, 16, 4, 4))
    with pytest.raises(RequestError, match="not one with pre-logits"):
        build_model(msgspec.structs.replace(spec, tasks=(MemoryTask(name="more", num_classes=2, cells=1),)))


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["pooled", "map"])
def test_features_of_a_network_with_pre_logits_are_exact_on_every_target(kind: str) -> None:
    model, spec = tiny_model(distillation_head=False, distillation_token=False, representation_dim=12)
    model.return_features(kind)
    for target in sorted(TARGETS):
        check_graph(model, spec.with_features(kind, scores=False), target, (32, 32))


def test_weight_decay_leaves_tokens_and_positions_alone() -> None:
    model = build_model(tiny_networks.tiny_spec("vit"))
    left = {each for layer in model.modules() if isinstance(layer, HasNoDecay) for each in layer.no_decay()}
    assert {name for name, each in model.named_parameters() if each in left} == {"tokens.prefix", "tokens.positions"}
