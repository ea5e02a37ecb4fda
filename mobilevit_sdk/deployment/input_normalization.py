"""Channel order, mean and std as one 1x1 convolution.

(P x - mean) / std  ==  (diag(1 / std) P) x - mean / std, with P the permutation of the channels: a convolution over
three channels that every backend takes, instead of a flip, a subtraction and a division.
"""

from __future__ import annotations

import torch
from torch import nn

from mobilevit_sdk.spec import Preprocessing


def input_normalization(preprocessing: Preprocessing) -> nn.Module:
    """RGB in [0, 1] -> the input of the reference model, [1, 3, H, W] -> [1, 3, H, W]; identity if nothing is to do."""
    order = [0, 1, 2] if preprocessing.channel_order == "rgb" else [2, 1, 0]
    std = torch.tensor(preprocessing.std, dtype=torch.float64)
    weight = torch.eye(3, dtype=torch.float64)[order] / std[:, None]
    bias = -torch.tensor(preprocessing.mean, dtype=torch.float64) / std
    if torch.equal(weight, torch.eye(3, dtype=torch.float64)) and not bias.any():
        return nn.Identity()
    conv = nn.Conv2d(3, 3, 1, dtype=torch.float64)
    conv.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})
    return conv
