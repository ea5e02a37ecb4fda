"""Channel order, mean and std as one 1x1 convolution, or within the network's first.

(P x - mean) / std  ==  N x - mean / std, with P the permutation of the channels and N = diag(1 / std) P: a convolution
over three channels that every backend takes, instead of a flip, a subtraction and a division. Where the mean is 0, the
first convolution takes it over, W * (N x)  ==  (W N) * x. With another mean only a convolution without padding can,
W * (N x - m) + b  ==  (W N) * x + (b - the sum of W m over the kernel): what pads the normalized image with zeros would
have to pad the image with the mean.
"""

from __future__ import annotations

import torch
from torch import nn

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


@torch.no_grad()
def fold_input_normalization(normalization: nn.Module, network: nn.Module) -> nn.Module:
    """Move the result of `input_normalization` into the first convolution of `network`, in place, where that is exact.

    Returns what remains to be done before the network.
    """
    if not (isinstance(normalization, nn.Conv2d) and isinstance(network, HasInputConvolution)):
        return normalization
    first = network.input_convolution()
    shifts = normalization.bias is None or bool(normalization.bias.any())
    if first.groups != 1 or (shifts and (first.padding != (0, 0) or first.bias is None)):
        return normalization
    if first.bias is not None and normalization.bias is not None:
        shift = first.weight.double().sum((2, 3)) @ normalization.bias.double()
        first.bias.copy_(first.bias.double() + shift)
    matrix = normalization.weight[:, :, 0, 0]
    first.weight.copy_(torch.einsum("ojhw,ji->oihw", first.weight.double(), matrix))
    return nn.Identity()
