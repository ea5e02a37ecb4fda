"""Channels that share a scale, evened out: the same function, and fewer levels wasted."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers import tiny_model
from tiny_networks import phone_checkpoint, with_tasks
from torch import nn

from mobilevit_sdk.deployment import TARGETS, PhoneGraph, audit, deploy
from mobilevit_sdk.deployment.explicit_attention import ExplicitAttention
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.models.efficientvit import EfficientViTConfig  # noqa: F401  (registers the family)
from mobilevit_sdk.models.random_weights import randomize
from mobilevit_sdk.models.registry import build_model, model_spec, spec_at_size
from mobilevit_sdk.quantization.sensitivity import scores
from mobilevit_sdk.quantization.simulation import simulate
from mobilevit_sdk.quantization.smoothing import SmoothedLinear, apply_smoothing, smooth, smoothing_scale
from mobilevit_sdk.spec import MemoryTask


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    return [random.random((1, 3, 32, 32), np.float32) for _ in range(4)]


def efficientvit():
    spec = spec_at_size(model_spec("efficientvit_m0", num_classes=10), 64, 64)
    return randomize(build_model(spec), 0).eval(), spec


def answers(graph, images):
    return np.concatenate([graph(torch.from_numpy(image).double()).numpy() for image in images])


@pytest.mark.parametrize("target", TARGETS)
def test_smoothing_is_exact_on_every_target_and_taken_whole(target, images):
    model, spec = tiny_model()
    graph = deploy(model.double(), target, spec)
    before = answers(graph, images)
    smooth(graph, images)
    np.testing.assert_allclose(answers(graph, images), before, rtol=1e-11, atol=1e-12)
    assert not audit(graph.float(), target, spec.preprocessing.image_size)


def test_the_projection_of_attention_and_the_classifier_are_evened(images):
    model, spec = tiny_model()
    graph = deploy(model, "litert-cpu", spec)
    attention = next(m for m in graph.network.modules() if isinstance(m, ExplicitAttention))
    v, proj = attention.v.weight.clone(), attention.proj.weight.clone()
    smooth(graph, images)
    factor = attention.proj.weight / proj
    torch.testing.assert_close(factor, factor[:1].expand_as(factor))
    torch.testing.assert_close(attention.v.weight * factor[0][:, None], v)
    assert factor[0].max() / factor[0].min() > 1.2
    assert isinstance(graph.network.head, SmoothedLinear)


@pytest.mark.parametrize("target", ["xnnpack", "litert-cpu"])
def test_memory_of_tasks_is_smoothed_with_the_values_beside_it(target):
    tasks = (MemoryTask(name="pets", num_classes=3, cells=2), MemoryTask(name="food", num_classes=4, cells=0))
    checkpoint = with_tasks(phone_checkpoint("vit"), *tasks)
    random = np.random.default_rng(0)
    size = checkpoint.spec.preprocessing.image_size
    images = [random.random((1, 3, *size), np.float32) for _ in range(4)]
    graph = deploy(copy.deepcopy(checkpoint.model).double(), target, checkpoint.spec)
    given = [torch.from_numpy(image).double() for image in images]
    before = [graph(image) for image in given]
    smoothing = smooth(graph, images)
    for old, new in zip(before, map(graph, given), strict=True):
        for one, other in zip(old, new, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
    heads = {path for path in smoothing if path.startswith("head.")}
    assert heads == {"head.own.linear", "head.tasks.0", "head.tasks.1"}


def test_what_was_smoothed_is_known_and_done_again(images):
    model, spec = tiny_model()
    graph, again = (deploy(copy.deepcopy(model).double(), "litert-cpu", spec) for _ in range(2))
    smoothing = smooth(graph, images)
    apply_smoothing(again, smoothing)
    weights = again.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in graph.state_dict().items())
    damaged = [{path: (factor, *scale[1:]) for path, scale in smoothing.items()} for factor in (0.0, -1.0, 1e300)]
    for wrong in ({"nowhere": (1.0,)}, {path: scale[1:] for path, scale in smoothing.items()}, *damaged):
        with pytest.raises(ArtifactError, match="does not fit this network"):
            apply_smoothing(deploy(model, "litert-cpu", spec), wrong)


class Unlike(nn.Module):
    """Every fourth channel is a hundredth of the others, and the classifier makes up for it."""

    def __init__(self):
        super().__init__()
        self.features, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 10)
        randomize(self, 0)
        with torch.no_grad():
            self.features.weight[::4] /= 100
            self.features.bias[::4] /= 100
            self.head.weight[:, ::4] *= 100

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def test_channels_of_unlike_size_lose_less_when_they_are_evened(images):
    graph = PhoneGraph((32, 32), nn.Identity(), Unlike()).eval().requires_grad_(False)
    evened = copy.deepcopy(graph)
    smooth(evened, images)
    recipe = QuantizationRecipe(float_modules=("features",))
    expected = scores(graph, images)
    lost = [((scores(simulate(g, recipe, "int8-weight"), images) - expected) ** 2).sum() for g in (graph, evened)]
    assert lost[1] < lost[0] / 4


def test_channels_without_values_or_weights_keep_their_scale():
    weight = torch.tensor([[4.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    torch.testing.assert_close(smoothing_scale(torch.tensor([16.0, 3.0, 0.0]), weight), torch.tensor([2.0, 1.0, 1.0]))


def test_without_folded_skips_the_graph_is_the_same_function():
    model, spec = efficientvit()
    model = model.double()
    picture = [np.random.default_rng(0).random((1, 3, 64, 64), np.float32)]
    folded = deploy(model, "xnnpack", spec)
    apart = deploy(model, "xnnpack", spec, quantized=True)
    np.testing.assert_allclose(answers(folded, picture), answers(apart, picture), rtol=1e-11, atol=1e-12)
    assert not audit(apart.float(), "xnnpack", (64, 64))
    largest = [
        max(m.weight.abs().max() for m in g.network.modules() if isinstance(m, nn.Conv2d) and m.groups > 1)
        for g in (folded, apart)
    ]
    assert largest[0] != largest[1]
