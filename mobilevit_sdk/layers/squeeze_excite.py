"""Squeeze-and-excitation (Hu et al., arXiv 1709.01507)."""

from __future__ import annotations

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate in (0, 1) that two 1x1 convolutions compute from the means of all channels.

    Shapes: [B, channels, H, W] -> [B, channels, H, W]. Between the convolutions stand `hidden_channels`.
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden_channels, 1)
        self.activation = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean((2, 3), keepdim=True)  # [B, C, H, W] -> [B, C, 1, 1]
        return x * self.fc2(self.activation(self.fc1(squeezed))).sigmoid()
