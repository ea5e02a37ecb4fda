"""Training images as uint8 squares of one size, in memory when they fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mobilevit_sdk.data import ImageDataset

MEMORY_LIMIT_BYTES = 4 << 30


class Squares(Dataset[Tensor]):
    """Every image of a dataset, its centre square resized to `side` pixels: RGB uint8 [3, side, side].

    `side` is 8/7 of the largest input size, which leaves room for random crops, but not larger than the images are.
    """

    def __init__(self, images: ImageDataset, largest_size: int) -> None:
        self.images = images
        smallest = min(min(images.image(i).size) for i in range(0, len(images), max(1, len(images) // 64)))
        self.side = min(math.ceil(largest_size * 8 / 7), smallest)
        self.labels = torch.tensor(images.labels)
        self.pixels: Tensor | None = None
        if len(images) * 3 * self.side**2 <= MEMORY_LIMIT_BYTES:
            self.pixels = torch.empty(len(images), 3, self.side, self.side, dtype=torch.uint8)
            for index in range(len(images)):
                self.pixels[index] = self._decode(index)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self._decode(index)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        rows = torch.as_tensor(indices)
        pixels = self.pixels[rows] if self.pixels is not None else torch.stack([self._decode(i) for i in indices])
        return pixels, self.labels[rows]

    def loader(self, batches: Sequence[Sequence[int]]) -> DataLoader[tuple[Tensor, Tensor]]:
        """Yield ([B, 3, side, side] uint8, [B] class indices) for each batch of indices, decoded in the background."""
        workers = 0 if self.pixels is not None else max(1, torch.get_num_threads() - 1)
        return DataLoader(self, batch_sampler=batches, collate_fn=_as_is, num_workers=workers)  # type: ignore[arg-type]

    def _decode(self, index: int) -> Tensor:
        square = ImageOps.fit(self.images.image(index), (self.side, self.side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def _as_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch
