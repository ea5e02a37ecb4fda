"""What all our networks have in common: a map of features, their mean over the image, and a classifier of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mobilevit_sdk.spec import Features, MemoryTask


@runtime_checkable
class LearnsTasks(Protocol):
    """A network that can answer further tasks beside its own; see `layers.memory`."""

    def add_tasks(self, tasks: Sequence[MemoryTask]) -> None:
        """Answer these, too, from now on, with fresh weights."""
        ...


@runtime_checkable
class PacksImages(Protocol):
    """A network that takes patches of several images in one sequence, as NaViT does."""

    def forward_packed(
        self,
        patches: Tensor,
        rows: Tensor,
        columns: Tensor,
        heights: Tensor,
        widths: Tensor,
        images: Tensor,
        count: int,
    ) -> Tensor:
        """Class scores of each, [B, count, num_classes]; see `NaViT.forward_packed`."""
        ...


@runtime_checkable
class HasBackbone(Protocol):
    """A network of another task on a backbone."""

    @property
    def pretrained(self) -> nn.Module | None:
        """The backbone, where it has weights of a training of its own, which are to change little."""
        ...

    def freeze_pretrained(self) -> None:
        """Keep the layers that no training of the whole changes."""
        ...


def as_rows(answers: Tensor | tuple[Tensor, ...]) -> Tensor:
    """What a network answers, all of an image in one row, [B, values], as runtimes give it; one output as it is."""
    return torch.cat([each.flatten(1) for each in answers], 1) if isinstance(answers, tuple) else answers


class Backbone(nn.Module):
    """Images to class scores, or, once `return_features` was called, to features or to scores and features.

    A family implements `feature_map`, and `pool` or `classify` where they are more than a mean and a linear layer.
    Features are what timm's network of the same name gives with `num_classes=0`, or by `forward_features`.
    """

    head: nn.Module
    output: Literal["logits", "pooled", "map"] = "logits"  # "logits" where no features are returned
    scores = True  # whether class scores are returned, before the features where there are both
    after_map: ClassVar[tuple[str, ...]] = ("head",)  # layers that read the map, and those behind them
    after_pool: ClassVar[tuple[str, ...]] = ("head",)

    def return_features(self, kind: Features, *, scores: bool = False) -> None:
        """Return features from now on; what only class scores need is dropped, unless `scores` are returned, too."""
        for name in () if scores else self.after_map if kind == "map" else self.after_pool:
            if hasattr(self, name):
                delattr(self, name)
        self.output, self.scores = kind, scores

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.feature_map(x)
        if self.output == "map" and not self.scores:
            return x
        pooled = self.pool(x)
        if not self.scores:
            return pooled
        logits = self.classify(pooled)
        return logits if self.output == "logits" else (logits, x if self.output == "map" else pooled)

    def feature_map(self, x: Tensor) -> Tensor:
        """Shapes: [B, in_channels, H, W] -> [B, C, h, w]."""
        raise NotImplementedError

    def pool(self, x: Tensor) -> Tensor:
        """Shapes: [B, C, h, w] -> [B, C]."""
        return x.mean((2, 3), keepdim=True).flatten(1)

    def classify(self, x: Tensor) -> Tensor:
        """Shapes: [B, C] -> [B, num_classes]."""
        scores: Tensor = self.head(x)
        return scores
