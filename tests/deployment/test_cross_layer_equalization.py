"""Cross-layer equalization: the same function, nothing scaled that may not be, and fewer levels wasted."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers import sampled
from prunable import CONFIGS, SIZE, answers, small_model
from tiny_networks import PATCHES
from torch import nn

from mobilevit_sdk import deployment
from mobilevit_sdk.channel_groups import channel_groups
from mobilevit_sdk.deployment import TARGETS, audit, deploy
from mobilevit_sdk.deployment.cross_layer_equalization import equalize_channels
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.layers.sandwich import FFN
from mobilevit_sdk.parity import compare
from mobilevit_sdk.quantization.sensitivity import scores
from mobilevit_sdk.quantization.simulation import observe_ranges, simulate

FAMILIES = sorted(CONFIGS)


@torch.no_grad()
def uneven(family):
    """A network in float64 whose BatchNorms have other gains and biases, by a factor from 1/64 to 64 for each channel.

    Norms of as many channels have the same factors: they may write one stream, and many different ones add up to alike.
    """
    model, spec = small_model(family)
    model = model.double()
    for norm in model.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            generator = torch.Generator().manual_seed(norm.num_features)
            factors = 2 ** (12 * torch.rand(norm.num_features, generator=generator, dtype=torch.float64) - 6)
            norm.weight.mul_(factors)
            norm.bias.mul_(factors)
            norm.running_mean.add_(0.1)  # some are zero
    return model, spec


def images(count=2):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def rows(place, size):
    stop = place.start + size * place.rows
    return torch.arange(place.start, stop) if place.unit is None else torch.tensor([place.start])


def growth(before, after, place, size):
    """By what the places of the units were multiplied, along their axis, relative to the first."""
    name = {module: path for path, module in before.named_modules()}[place.owner]
    old = getattr(place.owner, place.tensor).index_select(place.axis, rows(place, size)).double()
    new = getattr(after.get_submodule(name), place.tensor).index_select(place.axis, rows(place, size)).double()
    ratio = torch.where(old == 0, 1.0, new / old)
    return ratio / ratio.select(place.axis, 0).unsqueeze(place.axis)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_an_equalized_network_computes_what_it_did(family):
    model, _ = uneven(family)
    evened = copy.deepcopy(model)
    equalize_channels(evened)
    expected = answers(model, images())
    assert (answers(evened, images()) - expected).abs().max() <= 1e-12 * expected.abs().max()
    changed = [
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, evened.state_dict()[name])
    ]
    assert bool(changed) is (family not in ("tiny_vit", *PATCHES))  # GELU and LayerNorm leave it nothing


@pytest.mark.parametrize("family", FAMILIES)
def test_every_scale_equivariant_group_that_convolutions_read_is_scaled_and_no_other(family):
    model, _ = uneven(family)
    evened = copy.deepcopy(model)
    equalize_channels(evened)
    for group in channel_groups(model):
        for part in group.parts:
            held = [place for place in part if isinstance(getattr(place.owner, place.tensor, None), torch.Tensor)]
            if group.scale_equivariant and any(
                place.degree < 0 and isinstance(place.owner, nn.Conv2d) for place in held
            ):
                spread = [growth(model, evened, place, group.size) for place in held if place.degree]
                assert all(each.max() / each.min() >= 4 for each in spread), (group.kind, group.stage)
            elif group.kind != "heads":  # of which values are units of the stream, too
                for place in held:
                    assert (growth(model, evened, place, group.size) == 1).all(), (group.kind, group.stage)


def test_where_scale_equivariant_groups_are():
    kinds = {
        family: {(w.kind, w.stage) for w in channel_groups(small_model(family)[0]) if w.scale_equivariant}
        for family in FAMILIES
    }
    assert kinds["tiny_vit"] == set()
    assert kinds["mobilevit"] == {("stream", "stage 2"), ("stream", "stage 3")}  # what ends an inverted residual
    assert kinds["mobilevitv2"] >= {("stream", "stage 2")}
    assert {kind for kind, _ in kinds["efficientvit"]} == {"stream", "FFN", "expansion"}
    assert {kind for kind, _ in kinds["detr"]} == {"stream", "bottleneck"}


@pytest.mark.parametrize("target", sampled(TARGETS, "xnnpack", "coreml-ane"))
@torch.no_grad()
def test_the_graph_for_integers_is_the_same_function_and_taken_whole(target):
    model, spec = uneven("efficientvit")
    graph = deploy(model, target, spec, quantized=True)
    plain = deploy(model, target, spec)
    expected = plain(images(1))
    assert (graph(images(1)) - expected).abs().max() <= 1e-10 * expected.abs().max()
    assert not audit(graph.float(), target, spec.preprocessing.image_size)


@torch.no_grad()
def plant(model):
    """Every third channel within the FFNs sixty-four times as small, and what reads it as many times as large."""
    for ffn in model.modules():
        if isinstance(ffn, FFN):
            ffn.expand.norm.weight[::3] /= 64
            ffn.expand.norm.bias[::3] /= 64
            ffn.project.conv.weight[:, ::3] *= 64


def test_channels_of_unlike_size_lose_no_more_than_those_that_are_alike(monkeypatch):
    model, spec = small_model("efficientvit")
    unlike = copy.deepcopy(model)
    plant(unlike)
    pixels = list(np.random.default_rng(0).random((6, 1, 3, SIZE, SIZE), np.float32))
    recipe = QuantizationRecipe()

    def sqnr_db(network):
        graph = deploy(network, "litert-cpu", spec, quantized=True)
        in_integers = simulate(graph, recipe, "int8", observe_ranges(graph, recipe, pixels))
        return compare(scores(graph, pixels), scores(in_integers, pixels)).sqnr_db.median

    alike, evened = sqnr_db(model), sqnr_db(unlike)
    monkeypatch.setattr(deployment, "equalize_channels", lambda network: None)
    assert sqnr_db(unlike) < evened - 6
    assert evened > alike - 2
