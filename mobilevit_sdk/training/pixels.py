"""Training images as uint8 squares of one size, in memory when they fit."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mobilevit_sdk.data import ImageDataset

MEMORY_LIMIT_BYTES = 4 << 30
CHUNK = 256  # images decoded between two reports of progress
BATCHES_AHEAD = 4


class ImageCache:
    """Every image of a labeled dataset, its center square resized to `side` pixels.

    `side` is 8/7 of the largest input size, which leaves room for random crops, but not larger than most images are.
    They are decoded once, or, where all of them would take more than 4 GiB, anew for every batch. `report` hears how
    many are decoded. Raises RequestError naming an image that cannot be.
    """

    def __init__(
        self, images: ImageDataset, largest_size: int, report: Callable[[int], None] = lambda done: None
    ) -> None:
        self.images = images
        self.labels = torch.tensor(images.labels)
        self.side = min(math.ceil(largest_size * 8 / 7), images.typical_side())
        self.pixels: Tensor | None = None
        if len(images) * 3 * self.side**2 <= MEMORY_LIMIT_BYTES:
            chunks = [range(start, min(start + CHUNK, len(images))) for start in range(0, len(images), CHUNK)]
            pixels = torch.empty(len(images), 3, self.side, self.side, dtype=torch.uint8)
            for rows, (decoded, _) in zip(chunks, self.batches(chunks), strict=True):
                pixels[rows.start : rows.stop] = decoded
                report(rows.stop)
            self.pixels = pixels

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, plan: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield RGB uint8 [B, 3, side, side] and class indices [B] for each list of rows in `plan`.

        A few batches are made ahead, by as many threads as torch may use: Pillow decodes outside Python's lock, and
        threads, unlike processes, need no copy of the data.
        """
        pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="decode")
        ahead: deque[Future[tuple[Tensor, Tensor]]] = deque()
        try:
            for rows in plan:
                ahead.append(pool.submit(self._batch, rows))
                if len(ahead) > BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        index = torch.as_tensor(rows)
        pixels = self.pixels[index] if self.pixels is not None else torch.stack([self._decode(row) for row in rows])
        return pixels, self.labels[index]

    def _decode(self, row: int) -> Tensor:
        square = ImageOps.fit(self.images.image(row), (self.side, self.side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1)
