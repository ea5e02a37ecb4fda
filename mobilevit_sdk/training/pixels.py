"""Training images as uint8 pixels of one size, in memory when they fit."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.progress import Progress, Step, silent

MEMORY_LIMIT_BYTES = 4 << 30
CHUNK = 256  # images decoded between two steps of progress
BATCHES_AHEAD = 4


class ImageCache:
    """Every image of a labeled dataset, its center, or with `whole` all of it, resized to one size in pixels.

    That is 8/7 of the `largest` input, (height, width), which leaves room for random crops, but not larger than most
    images are.
    Images are decoded once, or, where all of them would take more than 4 GiB, again for every batch. `progress` hears
    how many are decoded. Raises RequestError naming an image that cannot be decoded.
    """

    def __init__(
        self, dataset: ImageDataset, largest: tuple[int, int], *, whole: bool = False, progress: Progress = silent
    ) -> None:
        self.dataset, self.whole = dataset, whole
        typical = dataset.typical_side()
        height, width = (min(math.ceil(side * 8 / 7), typical * side // min(largest)) for side in largest)
        self.size = (height, width)
        self.pixels: Tensor | None = None
        count = len(dataset)
        if count * 3 * height * width <= MEMORY_LIMIT_BYTES:
            chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
            pixels = torch.empty(count, 3, height, width, dtype=torch.uint8)
            for rows, (decoded, _) in zip(chunks, self.batches(chunks), strict=True):
                pixels[rows.start : rows.stop] = decoded
                progress(Step("reading images", rows.stop, count))
            self.pixels = pixels

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(self, plan: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Sequence[int]]]:
        """Yield RGB uint8 [B, 3, *size] and the rows for each list of rows in `plan`.

        A few batches are prepared ahead, by as many threads as torch may use: Pillow decodes outside Python's lock, and
        threads, unlike processes, need no copy of the data.
        """
        pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="decode")
        ahead: deque[Future[tuple[Tensor, Sequence[int]]]] = deque()
        try:
            for rows in plan:
                ahead.append(pool.submit(self._batch, rows))
                if len(ahead) > BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(self, rows: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        if self.pixels is not None:
            return self.pixels[torch.as_tensor(rows)], rows
        return torch.stack([self._decode(row) for row in rows]), rows

    def _decode(self, row: int) -> Tensor:
        image, size = self.dataset.image(row), self.size[::-1]
        resampling = Image.Resampling.BILINEAR
        resized = image.resize(size, resampling) if self.whole else ImageOps.fit(image, size, resampling)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)
