"""Channel order, mean and std as one 1x1 convolution, within the network's first, or as one subtraction before it.

(P x - mean) / std  ==  N x - mean / std, with P the permutation of the channels and N = diag(1 / std) P: a convolution
over three channels that every backend takes, instead of a flip, a subtraction and a division. Where the mean is 0, the
first convolution takes it over, W * (N x)  ==  (W N) * x. With another mean only a convolution without padding can,
W * (N x - m) + b  ==  (W N) * x + (b - the sum of W m over the kernel): what pads the normalized image with zeros would
have to pad the image with the mean.

N x - m  ==  N (x - n) with n = N^-1 m, the mean in the order of the image's channels. So a backend that subtracts
faster than it convolves three channels computes (W N) * (x - n), and pads x - n with zeros as before.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilevit_sdk.layers import HasInputConvolution
from mobilevit_sdk.spec import Preprocessing


def input_normalization(preprocessing: Preprocessing) -> nn.Module:
    """RGB in [0, 1] -> the input of the reference model, [1, 3, H, W] -> [1, 3, H, W]; perhaps the identity."""
    order = [0, 1, 2] if preprocessing.channel_order == "rgb" else [2, 1, 0]
    std = torch.tensor(preprocessing.std, dtype=torch.float64)
    weight = torch.eye(3, dtype=torch.float64)[order] / std[:, None]
    bias = -torch.tensor(preprocessing.mean, dtype=torch.float64) / std
    if torch.equal(weight, torch.eye(3, dtype=torch.float64)) and not bias.any():
        return nn.Identity()
    conv = nn.Conv2d(3, 3, 1, dtype=torch.float64)
    conv.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})
    return conv


class Subtraction(nn.Module):
    """Subtracts a value from each channel. Shapes: [1, C, H, W] -> the same."""

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x - self.values


@torch.no_grad()
def fold_input_normalization(normalization: nn.Module, network: nn.Module, *, subtract: bool = False) -> nn.Module:
    """Move the result of `input_normalization` into the first convolution of `network`, in place, where that is exact.

    Returns what remains to be done before the network: with `subtract`, no more than a subtraction where the network
    says which layer is first.
    """
    if not (isinstance(normalization, nn.Conv2d) and isinstance(network, HasInputConvolution)):
        return normalization
    first = network.input_convolution()
    assert normalization.bias is not None
    matrix, bias = normalization.weight[:, :, 0, 0], normalization.bias
    left: nn.Module = nn.Identity()
    if first.groups != 1:
        return normalization
    if bias.any():
        if first.padding == (0, 0) and first.bias is not None:
            first.bias.copy_(first.bias.double() + first.weight.double().sum((2, 3)) @ bias)
        elif subtract:
            left = Subtraction(-torch.linalg.solve(matrix, bias))
        else:
            return normalization
    first.weight.copy_(torch.einsum("ojhw,ji->oihw", first.weight.double(), matrix))
    return left
