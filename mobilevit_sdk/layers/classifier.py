"""The classifier that starts with a BatchNorm."""

from __future__ import annotations

from torch import Tensor, nn

from mobilevit_sdk.channel_groups.groups import Slice, reads, writes


class BatchNormClassifier(nn.Module):
    """BatchNorm, then a linear layer; where it is distilled the mean of two of them: [B, C] -> [B, num_classes].

    One of the two learns from labels and one from a teacher (DeiT, arXiv 2012.12877, sec. 3; LeViT, arXiv 2104.01136,
    sec. 4.2, which puts the BatchNorm there).
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

    def on_stream(self, start: int = 0) -> tuple[Slice, ...]:
        """What reads the channels, from `start` on."""
        found = (*writes(self.norm, start), *reads(self.linear, start))
        if self.norm_dist is not None and self.linear_dist is not None:
            found += (*writes(self.norm_dist, start), *reads(self.linear_dist, start))
        return found
