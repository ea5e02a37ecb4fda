"""What every task can do, and all that its callers know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.tasks.quality import Quality

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mobilevit_sdk.tasks.draws import Draws

Images = Sequence[np.ndarray] | np.ndarray  # RGB uint8 [3, H, W] each; of a file with several sizes, of any of them
Predict = Callable[[Images], np.ndarray]  # images -> the answers, [B, ...]
T = TypeVar("T")


class Together(Protocol):
    """This process among several that measure the same network: `rank` of `size`."""

    size: int
    rank: int

    def gather(self, found: Sequence[T]) -> list[Sequence[T]]:
        """What every process found, in the order of their ranks."""
        ...


def for_each(
    measure: Callable[[range], Iterable[T]],
    count: int,
    batch_size: int,
    together: Together | None = None,
    progress: Progress = silent,
) -> list[T]:
    """What `measure` finds for each of `count` images, which it is given in batches.

    Where several processes work `together`, each measures some of the batches, and all get what all have found.
    """
    size, rank = (together.size, together.rank) if together else (1, 0)
    own = []
    for start in range(0, count, batch_size)[rank::size]:
        own.append(list(measure(range(start, min(start + batch_size, count)))))
        progress(Step("evaluating", min(start + batch_size * size, count), count))
    return [each for found in all_batches(own, together) for each in found]


def all_batches(own: Sequence[T], together: Together | None) -> list[T]:
    """What was found for each batch, in their order, from what this process found for its `own`, every size-th."""
    if together is None:
        return list(own)
    every = together.gather(own)
    count = sum(map(len, every))
    return [every[number % together.size][number // together.size] for number in range(count)]


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
        self,
        predict: Predict,
        dataset: ImageDataset,
        *,
        batch_size: int = 64,
        progress: Progress = silent,
        together: Together | None = None,
    ) -> Quality:
        """How good the answers to labeled images are, these preprocessed as the spec says; see `for_each`."""
        ...

    def targets(self, dataset: ImageDataset, rows: Sequence[int]) -> Any:
        """Those of the images `rows` of a matched dataset."""
        ...

    def augment(
        self, images: Tensor, targets: Any, size: tuple[int, int], recipe: Recipe, draws: Draws
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

    def divided(self, targets: Sequence[Any], total: Callable[[Sequence[float]], Sequence[float]]) -> Sequence[Any]:
        """Targets of parts of a batch, such that the mean of the parts' losses, by images, is the loss of the batch.

        `total` adds each of its numbers up over all processes that have a part.
        """
        ...
