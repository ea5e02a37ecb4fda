"""The random numbers of augmentation: of each image from a seed of its own, wherever it stands in whichever batch.

They come from a counter-based generator (splitmix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
Generators", OOPSLA 2014), so an image's seed is all that it takes to make the same picture of it again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Of the augmentation of images and of the random numbers in it. A seed makes the same pixels again with the same number
# only: raise it with every change that makes others.
AUGMENTATION_VERSION = 1

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # the increment of splitmix64: odd, and 2^64 by the golden ratio
SEED_BITS = 31  # that a seed is not negative as a 32-bit integer either


@dataclass
class Draws:
    """Random numbers for a batch of images.

    `seeds` are those of the images, int64 [B]; `batch` is for what all of them share, such as how they are mixed.
    """

    seeds: Tensor
    batch: torch.Generator
    _calls: int = 0

    def __len__(self) -> int:
        return len(self.seeds)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1) for each image, float32 [B, *shape], on the CPU; others with every call.

        They depend on the image's seed, on how many calls there were before, and on their place in `shape`; a longer
        shape begins with the numbers of a shorter one, and leaves those of later calls as they are.
        """
        bits = self._bits(math.prod(shape)) >> np.uint64(40)  # a float32 holds 24 of them
        return torch.from_numpy(bits.astype(np.float32) * np.float32(2**-24)).view(len(self), *shape)

    def fork(self) -> Draws:
        """Other numbers, for as many calls as an image may need without moving those of the calls after this one."""
        bits = self._bits(1)[:, 0] >> np.uint64(1)
        return Draws(torch.from_numpy(bits.astype(np.int64)), self.batch)

    def at(self, rows: Sequence[int]) -> Draws:
        """For these of the images alone, from here on."""
        return Draws(self.seeds[torch.as_tensor(rows, dtype=torch.int64)], self.batch, self._calls)

    def _bits(self, count: int) -> np.ndarray:
        """64 random bits, uint64 [B, count]; others with every call."""
        self._calls += 1
        call, places = (np.arange(1, last + 1, dtype=np.uint64) * _GOLDEN for last in (self._calls, count))
        keys = _mixed(_mixed(self.seeds.numpy().astype(np.uint64) + _GOLDEN) ^ _mixed(call[-1:]))
        return _mixed(keys[:, None] + places)


def image_seeds(
    seed: int, epoch: int, rows: Sequence[int] | np.ndarray | Tensor, repeat: int | Sequence[int] | Tensor = 0
) -> Tensor:
    """The seeds of images, `rows` of their dataset, in an epoch counted from 0: int64 [rows], from 0 to 2^31 - 1.

    `seed` is the recipe's; `repeat` counts the times that the epoch has shown the image before.
    """
    key = np.zeros(1, np.uint64)
    for word in (seed, epoch, rows, repeat):
        key = _mixed(key + (np.atleast_1d(np.asarray(word, np.uint64)) + np.uint64(1)) * _GOLDEN)
    return torch.from_numpy((key >> np.uint64(64 - SEED_BITS)).astype(np.int64))


def _mixed(words: np.ndarray) -> np.ndarray:
    """The output function of splitmix64, uint64 to uint64: each bit of a result depends on each of the word."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
