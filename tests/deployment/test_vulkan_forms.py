"""The forms that Vulkan's shaders compute rightly: each equals what it replaces."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import tiny_model
from torch import nn

from mobilevit_sdk.deployment import deploy
from mobilevit_sdk.deployment.batched_depthwise import BatchedDepthwise, unbatch_depthwise
from mobilevit_sdk.deployment.polynomial_gelu import PolynomialGELU, gelus_as_polynomials, gelus_as_tanh


def test_the_polynomial_gelu_is_off_by_less_than_float32_rounds():
    x = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([0.0, -100, 100, -3e4, 3e4])]).double()
    exact = nn.functional.gelu(x)
    assert (PolynomialGELU()(x) - exact).abs().max() < 7e-8
    assert 4e-4 < (nn.functional.gelu(x, approximate="tanh") - exact).abs().max() < 5e-4
    network = nn.Sequential(nn.GELU(), nn.GELU(approximate="tanh"))
    gelus_as_polynomials(network)
    assert isinstance(network[0], PolynomialGELU)
    assert network[1].approximate == "tanh"  # which is what was asked for
    gelus_as_tanh(network)
    assert network[0].approximate == "tanh"


@pytest.mark.parametrize(("kernel", "stride", "padding", "bias"), [(3, 1, 1, True), (5, 2, 2, False), (1, 1, 0, True)])
def test_a_depthwise_convolution_of_a_batch_is_one_of_more_channels(kernel, stride, padding, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, kernel, stride, padding, groups=6, bias=bias, dtype=torch.float64)
    x = torch.randn(4, 6, 7, 7, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(BatchedDepthwise(conv, 4)(x), conv(x), rtol=1e-14, atol=1e-14)


def test_only_a_depthwise_convolution_can_take_a_batch_as_channels():
    with pytest.raises(ValueError, match="depthwise"):
        BatchedDepthwise(nn.Conv2d(6, 6, 3), 4)


def test_convolutions_of_one_map_stay_as_they_are():
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole, self.windows = (nn.Conv2d(3, 3, 3, padding=1, groups=3) for _ in range(2))

        def forward(self, image):
            return self.windows(self.whole(image).view(1, 3, 2, 4, 8).permute(0, 2, 1, 3, 4).reshape(2, 3, 4, 8))

    network, image = Windows(), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        expected = network(image)
        unbatch_depthwise(network, (8, 8))
        torch.testing.assert_close(network(image), expected)
    assert isinstance(network.windows, BatchedDepthwise)
    assert network.windows.batch == 2
    assert type(network.whole) is nn.Conv2d


def test_layer_norms_keep_gain_and_bias_where_the_operator_needs_them():
    network, spec = tiny_model("tiny_vit")
    with_both = [layer for layer in deploy(network, "vulkan", spec).modules() if isinstance(layer, nn.LayerNorm)]
    assert with_both
    assert all(norm.weight is not None and norm.bias is not None for norm in with_both)
    folded = [layer for layer in deploy(network, "coreml", spec).modules() if isinstance(layer, nn.LayerNorm)]
    assert any(norm.weight is None for norm in folded)
