"""How an epoch is cut into optimizer steps, and the random numbers of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mobilevit_sdk.recipe import Recipe


@dataclass(frozen=True)
class OptimizerStep:
    """Rows [start, stop) of the epoch's permutation, at input size `size` in pixels."""

    index: int
    start: int
    stop: int
    size: int


def plan_epoch(recipe: Recipe, epoch: int, images: int, image_size: int) -> list[OptimizerStep]:
    """Cut epoch `epoch`, counted from 0, into steps; a single leftover image is skipped, because BatchNorm needs two.

    `images` is the number of training images, `image_size` the evaluation size in pixels.
    """
    generator = generator_for(recipe.seed, epoch, -2)
    steps: list[OptimizerStep] = []
    start = 0
    while start < images:
        sizes = recipe.sizes_at((epoch + start / images) / recipe.epochs, image_size)
        size = sizes[int(torch.randint(len(sizes), (), generator=generator))]
        stop = min(images, start + recipe.batch_size_at(size, image_size))
        if stop - start > 1:
            steps.append(OptimizerStep(len(steps), start, stop, size))
        start = stop
    return steps


def shuffled_rows(recipe: Recipe, epoch: int, images: int) -> torch.Tensor:
    """The order in which an epoch shows its images: int64 [images]."""
    return torch.randperm(images, generator=generator_for(recipe.seed, epoch, -1))


def generator_for(seed: int, epoch: int, step: int) -> torch.Generator:
    """Random numbers that depend on the seed, the epoch and the step only: a resumed training draws the same.

    Steps count from 0; -1 and -2 are those of the order and of the plan of an epoch.
    """
    words = np.random.SeedSequence((seed, epoch, step + 2)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> 1))
