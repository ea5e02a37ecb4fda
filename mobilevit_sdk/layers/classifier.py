"""The classifier that starts with a BatchNorm."""

from __future__ import annotations

from torch import Tensor, nn


class BatchNormClassifier(nn.Module):
    """BatchNorm, then a linear layer; with `distilled`, the mean of two such pairs. [B, C] -> [B, num_classes].

    One of the two learns from labels and one from a teacher (DeiT, arXiv 2012.12877, sec. 3; LeViT, arXiv 2104.01136,
    sec. 4.2, which adds the BatchNorm).
    """

    def __init__(self, channels: int, num_classes: int, *, distilled: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.linear = nn.Linear(channels, num_classes)
        self.norm_dist = nn.BatchNorm1d(channels) if distilled else None
        self.linear_dist = nn.Linear(channels, num_classes) if distilled else None

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(self.norm(x))
        if self.norm_dist is None or self.linear_dist is None:
            return scores
        return (scores + self.linear_dist(self.norm_dist(x))) / 2
