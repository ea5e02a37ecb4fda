"""Norms on residual streams: scaled streams answer as before, bit for bit, and float16 carries what is squared."""

from __future__ import annotations

import pytest
import torch
from helpers import randomize
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import tiny_model
from torch import nn

from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.deployment import residual_scaling as scaled_stream
from mobilevit_sdk.deployment.channels_first.norm import ChannelsFirstNorm
from mobilevit_sdk.deployment.decomposed_layer_norm import DecomposedLayerNorm, decompose_layer_norms
from mobilevit_sdk.deployment.fold_batch_norm import fold_batch_norms
from mobilevit_sdk.deployment.global_norm import GlobalNorm, MatmulGlobalNorm
from mobilevit_sdk.deployment.residual_scaling import SCALE, scale_residual_streams
from mobilevit_sdk.layers.traits import residual_streams
from mobilevit_sdk.parity.metrics import compare

FAMILIES = ("mobilevit", "mobilevitv2", "tiny_vit")


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_scaled_streams_gives_the_same_answers_bit_for_bit(family):
    network, spec = tiny_model(family)
    fold_batch_norms(network)
    images = torch.rand(2, 3, *spec.preprocessing.image_size, generator=torch.Generator().manual_seed(0))
    seen = _sizes_on_streams(network, images)
    expected = network(images)
    scale_residual_streams(network)
    assert torch.equal(network(images), expected)
    assert _sizes_on_streams(network, images) == [SCALE * size for size in seen]


def _sizes_on_streams(network: nn.Module, images: torch.Tensor) -> list[float]:
    """The largest value that each norm on a declared stream reads."""
    norms = [norm for stream in residual_streams(network) for norm in stream.norms]
    assert norms
    found: list[float] = []
    hooks = [norm.register_forward_pre_hook(lambda _, x: found.append(x[0].abs().max().item())) for norm in norms]
    network(images)
    for hook in hooks:
        hook.remove()
    return found


@given(
    channels=st.integers(2, 64),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    offset=st.sampled_from([0.0, 5.0]),
    affine=st.booleans(),
    centered=st.booleans(),
)
def test_layer_norm_in_elements_is_exact(channels, scale, offset, affine, centered):
    norm = randomize(nn.LayerNorm(channels, elementwise_affine=affine), 2).double()
    x = tokens(3, 5, channels) * scale + offset
    if centered:
        x = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(DecomposedLayerNorm(norm, centered=centered)(x), norm(x), rtol=1e-9, atol=1e-9)


def test_a_norm_over_several_axes_stays_as_it_is():
    network = nn.Sequential(nn.LayerNorm((3, 4)))
    decompose_layer_norms(network, ())
    assert isinstance(network[0], nn.LayerNorm)
    with pytest.raises(ValueError, match="over one axis, not over 2"):
        DecomposedLayerNorm(nn.LayerNorm((3, 4)), centered=False)


@pytest.mark.parametrize("target", ["litert-gpu", "coreml-ane"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_activations_of_a_thousand_stay_in_range_in_float16(family, target, monkeypatch):
    """The network's own streams, made so large that they reach 1e3: unscaled, their squares are infinite."""
    network, spec = tiny_model(family)
    fold_batch_norms(network)
    image = torch.rand(1, 3, *spec.preprocessing.image_size, generator=torch.Generator().manual_seed(0))
    pixels = to_model_input(image, spec.preprocessing)
    with monkeypatch.context() as larger:
        larger.setattr(scaled_stream, "SCALE", 1000 / max(_sizes_on_streams(network, pixels)))
        scale_residual_streams(network)
    assert max(_sizes_on_streams(network, pixels)) == pytest.approx(1000, rel=1e-3)
    exact = network(pixels).numpy()
    safe = deploy(network, target, spec)
    monkeypatch.setattr(scaled_stream, "SCALE", 1.0)
    plain = deploy(network, target, spec)
    assert compare(exact, plain(image).numpy()).sqnr_db.worst > 80
    assert compare(exact, safe.half()(image.half()).float().numpy()).sqnr_db.worst > 40
    assert compare(exact, plain.half()(image.half()).float().numpy()).sqnr_db.worst < 20


@pytest.mark.parametrize("target", ["coreml", "coreml-ane", "litert-cpu", "litert-gpu"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_may_run_in_float16_has_scaled_streams(family, target):
    network, spec = tiny_model(family)
    before = {layer.eps for layer in network.modules() if isinstance(layer, (nn.LayerNorm, nn.GroupNorm))}
    graph = deploy(network, target, spec)
    kinds = (nn.LayerNorm, ChannelsFirstNorm, DecomposedLayerNorm, GlobalNorm, MatmulGlobalNorm)
    norms = [layer for layer in graph.modules() if isinstance(layer, kinds)]
    found = {float(layer.eps) for layer in norms}
    assert sorted(found) == pytest.approx(sorted(SCALE**2 * eps for eps in before))
