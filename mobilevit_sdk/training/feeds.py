"""How the images of a training step become what the network takes: as one batch, or packed in sequences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mobilevit_sdk.data import ImageDataset, to_model_input
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.backbone import PacksImages
from mobilevit_sdk.models.registry import model_config
from mobilevit_sdk.progress import Progress
from mobilevit_sdk.recipe import Packing, Recipe
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks.augment import augment_shapes
from mobilevit_sdk.tasks.draws import Draws
from mobilevit_sdk.tasks.task import Task
from mobilevit_sdk.training.packing import LONGEST, PackedImages, draw_kept, grid_of, pack
from mobilevit_sdk.training.pixels import ImageCache, ShapeCache
from mobilevit_sdk.training.schedule import epoch_seeds
from mobilevit_sdk.training.start import input_size


@dataclass(frozen=True)
class Fed:
    """Augmented images of a step: as the network takes them, what it should answer, and as a teacher takes them."""

    x: Any
    targets: Any
    images: Tensor | None = None  # [B, 3, H, W] in [0, 1], where a teacher can take them
    packed: bool = False  # several in a sequence


class Feed(Protocol):
    """The images of a training."""

    dataset: ImageDataset

    def batches(self, plan: Sequence[Sequence[int]]) -> Iterator[tuple[Any, Sequence[int]]]:
        """Images and their rows for each list of rows in `plan`."""
        ...

    def seeds(self, epoch: int, rows: Tensor) -> Tensor:
        """Of the augmentation of the images of an epoch that begins, `rows` in its order: int64 [images]."""
        ...

    def prepare(self, images: Any, rows: Sequence[int], side: int, draws: Draws) -> Fed:
        """What `batches` gave, augmented, for inputs whose longer side has `side` pixels."""
        ...

    def answers(self, model: nn.Module, x: Any) -> Any:
        """Of the network to what `prepare` made, in the order of the targets."""
        ...


class BatchFeed:
    """Images of one size, one beside the other, by the augmentation of the task."""

    def __init__(self, task: Task, spec: ModelSpec, recipe: Recipe, device: torch.device, cache: ImageCache) -> None:
        self.task, self.spec, self.recipe, self.device, self.cache = task, spec, recipe, device, cache
        self.dataset, self.batches = cache.dataset, cache.batches

    def seeds(self, epoch: int, rows: Tensor) -> Tensor:
        return epoch_seeds(self.recipe, epoch, rows)

    def prepare(self, images: Tensor, rows: Sequence[int], side: int, draws: Draws) -> Fed:
        images, targets = images.to(self.device), self.task.targets(self.dataset, rows).to(self.device)
        images, targets = self.task.augment(images, targets, input_size(self.spec, side), self.recipe, draws)
        x = to_model_input(images, self.spec.preprocessing).contiguous(memory_format=torch.channels_last)
        return Fed(x, targets, images)

    def answers(self, model: nn.Module, x: Tensor) -> Any:
        return self.task.answers(model, x)


class PackedFeed:
    """Images in proportions of their own, each of a size and with a share of patches drawn for it, in sequences."""

    def __init__(
        self, task: Task, spec: ModelSpec, recipe: Recipe, packing: Packing, device: torch.device, cache: ShapeCache
    ) -> None:
        self.task, self.spec, self.recipe, self.device, self.cache = task, spec, recipe, device, cache
        self.dataset, self.batches, self.packing = cache.dataset, cache.batches, packing
        self.sides, self.sequence = packed_sizes(spec, packing)

    def seeds(self, epoch: int, rows: Tensor) -> Tensor:
        return epoch_seeds(self.recipe, epoch, rows)

    def prepare(self, images: list[Tensor], rows: Sequence[int], side: int, draws: Draws) -> Fed:
        low, high = self.sides
        patch = model_config(self.spec).stride
        sides = (low + (high - low) * draws.uniform()).tolist()

        def size_of(number: int, proportions: float) -> tuple[int, int]:
            height, width = grid_of(proportions, sides[number], patch)
            return height * patch, width * patch

        shown = augment_shapes([image.to(self.device) for image in images], size_of, self.recipe, draws)
        counts = [math.prod(image.shape[1:]) // patch**2 for image in shown]
        kept = draw_kept(counts, self.packing.drop, draws)
        ready = [to_model_input(image[None], self.spec.preprocessing)[0] for image in shown]
        packed = pack(ready, patch, self.sequence, self.packing.images, kept)
        return Fed(packed, self.task.targets(self.dataset, rows).to(self.device), packed=True)

    def answers(self, model: nn.Module, x: PackedImages) -> Tensor:
        return x.scores(model)


def packed_sizes(spec: ModelSpec, packing: Packing) -> tuple[tuple[float, float], int]:
    """The least and the largest side of images, as that of a square of as many pixels, and the tokens of a sequence.

    Raises RequestError for what the network does not take.
    """
    side, config = math.sqrt(math.prod(spec.preprocessing.image_size)), model_config(spec)
    low, high = packing.sides or (side / 2, side)
    tokens = int((high / config.stride) ** 2 + 1e-6)
    sequence = packing.sequence or 2 * tokens
    if tokens < 1 or sequence < tokens:
        raise RequestError(
            f"sequences of {sequence} tokens do not hold an image of {tokens}: the recipe's packing.sequence"
        )
    for proportions in (LONGEST, 1 / LONGEST):
        try:
            config.check_image_size(*(number * config.stride for number in grid_of(proportions, high, config.stride)))
        except ValueError as error:
            raise RequestError(f"packed images of the recipe do not fit {spec.model}: {error}") from error
    return (low, high), sequence


def make_feed(
    task: Task,
    spec: ModelSpec,
    recipe: Recipe,
    model: nn.Module,
    dataset: ImageDataset,
    device: torch.device,
    progress: Progress,
    pixels: tuple[int, int] | None = None,
) -> Feed:
    """The feed that a recipe asks for, whose images are decoded to `pixels` or to what the inputs need.

    Raises RequestError where the network does not take packed images.
    """
    if recipe.packing is None:
        largest = input_size(spec, max((*recipe.sizes, *spec.preprocessing.image_size)))
        cache = ImageCache(dataset, largest, whole=spec.num_queries > 0, size=pixels, progress=progress)
        return BatchFeed(task, spec, recipe, device, cache)
    if not isinstance(model, PacksImages):
        raise RequestError(f"{spec.model} takes images of one size at a time: packing is for networks such as navit_*")
    (_, high), _ = packed_sizes(spec, recipe.packing)
    shapes = ShapeCache(dataset, math.ceil(high), longest=LONGEST, progress=progress)
    return PackedFeed(task, spec, recipe, recipe.packing, device, shapes)
