"""What every task can do, and all that its callers know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.tasks.quality import Quality

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Images = Sequence[np.ndarray] | np.ndarray  # RGB uint8 [3, H, W] each; of a file with several sizes, of any of them
Predict = Callable[[Images], np.ndarray]  # images -> the answers, [B, ...]


def batch(images: Sequence[np.ndarray]) -> Images:
    """One array, [B, 3, H, W], unless the images are of several sizes."""
    return np.stack(images) if len({image.shape for image in images}) == 1 else images


class Task(Protocol):
    """What the answers of one network are for, and what right answers are.

    Targets are what a training compares answers with: a tensor, or what has `to(device)` like one.
    """

    @property
    def recipe(self) -> Recipe:
        """What a training takes where nothing is asked for."""
        ...

    def match(self, dataset: ImageDataset, *, training: bool = False) -> ImageDataset:
        """The same images with labels as this network answers them; `training` refuses what cannot be learned.

        Raises RequestError where data and network do not fit.
        """
        ...

    def notes(self, dataset: ImageDataset) -> tuple[str, ...]:
        """What `match` had to assume, in sentences for people."""
        ...

    def measure(
        self, predict: Predict, dataset: ImageDataset, *, batch_size: int = 64, progress: Progress = silent
    ) -> Quality:
        """How good the answers to labeled images are, these preprocessed as the spec says."""
        ...

    def targets(self, dataset: ImageDataset, rows: Sequence[int]) -> Any:
        """Those of the images `rows` of a matched dataset."""
        ...

    def augment(
        self, images: Tensor, targets: Any, size: tuple[int, int], recipe: Recipe, generator: torch.Generator
    ) -> tuple[Tensor, Any]:
        """Images and their targets, changed alike: uint8 [B, 3, S, T] -> [B, 3, *size] in [0, 1]."""
        ...

    def answers(self, model: nn.Module, x: Tensor) -> Any:
        """What a training reads of the network: its answers, and those on the way to them that a loss asks for."""
        ...

    def loss(self, answers: Any, targets: Any, recipe: Recipe | None = None, taught: Tensor | None = None) -> Tensor:
        """How wrong the answers of the network as it stands, in training mode or not, are: a scalar.

        With the terms of `recipe`, and of a teacher's answers `taught`; without either the plain loss, for which
        `targets` may also be labels.
        """
        ...
