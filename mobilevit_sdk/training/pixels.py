"""Training images as uint8 pixels, of one size or in their own proportions, in memory when they fit."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.progress import Progress, Step, silent

MEMORY_LIMIT_BYTES = 4 << 30
CHUNK = 256  # images decoded between two steps of progress
BATCHES_AHEAD = 4
_BILINEAR = Image.Resampling.BILINEAR


class _DecodedAhead:
    """Images of a labeled dataset, decoded in threads before they are needed."""

    dataset: ImageDataset

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(self, plan: Sequence[Sequence[int]]) -> Iterator[tuple[Any, Sequence[int]]]:
        """Yield RGB uint8 images and the rows for each list of rows in `plan`.

        A few batches are prepared ahead, by as many threads as torch may use: Pillow decodes outside Python's lock, and
        threads, unlike processes, need no copy of the data.
        """
        pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="decode")
        ahead: deque[Future[tuple[Any, Sequence[int]]]] = deque()
        try:
            for rows in plan:
                ahead.append(pool.submit(self._batch, rows))
                if len(ahead) > BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(self, rows: Sequence[int]) -> tuple[Any, Sequence[int]]:
        raise NotImplementedError

    def _chunks(self, progress: Progress) -> Iterator[tuple[range, Any]]:
        """All images, once."""
        count = len(self.dataset)
        chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
        for rows, (decoded, _) in zip(chunks, self.batches(chunks), strict=True):
            yield rows, decoded
            progress(Step("reading images", rows.stop, count))


class ImageCache(_DecodedAhead):
    """Every image of a labeled dataset, its center, or with `whole` all of it, resized to one size in pixels.

    That is `size`, by default 8/7 of the `largest` input, (height, width), which leaves room for random crops, but not
    larger than most images are. Batches are [B, 3, *size].
    Images are decoded once, or again for every batch where they lie in a storage or all of them would take more than
    4 GiB. `progress` hears how many are decoded. Raises RequestError naming an image that cannot be decoded.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        largest: tuple[int, int],
        *,
        whole: bool = False,
        size: tuple[int, int] | None = None,
        progress: Progress = silent,
    ) -> None:
        self.dataset, self.whole = dataset, whole
        if size is None:
            typical = dataset.typical_side()
            height, width = (min(math.ceil(side * 8 / 7), typical * side // min(largest)) for side in largest)
        else:
            height, width = size
        self.size = (height, width)
        self.pixels: Tensor | None = None
        if dataset.storage is None and len(dataset) * 3 * height * width <= MEMORY_LIMIT_BYTES:
            pixels = torch.empty(len(dataset), 3, height, width, dtype=torch.uint8)
            for rows, decoded in self._chunks(progress):
                pixels[rows.start : rows.stop] = decoded
            self.pixels = pixels

    def _batch(self, rows: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        if self.pixels is not None:
            return self.pixels[torch.as_tensor(rows)], rows
        return torch.stack([self._decode(row) for row in rows]), rows

    def _decode(self, row: int) -> Tensor:
        image, size = self.dataset.image(row), self.size[::-1]
        return _pixels(image.resize(size, _BILINEAR) if self.whole else ImageOps.fit(image, size, _BILINEAR))


class ShapeCache(_DecodedAhead):
    """Every image of a labeled dataset in its own proportions, with the pixels of a square of 8/7 of `side` at most.

    Of images that are more than `longest` times as long as wide, it holds the middle. Batches are lists of [3, H, W].
    Memory, progress and errors are those of `ImageCache`.
    """

    def __init__(self, dataset: ImageDataset, side: int, *, longest: float, progress: Progress = silent) -> None:
        self.dataset, self.longest = dataset, longest
        self.side = min(math.ceil(side * 8 / 7), math.ceil(dataset.typical_side() * math.sqrt(longest)))
        self.images: list[Tensor] | None = None  # decoded anew for every batch
        if dataset.storage is None and len(dataset) * 3 * self.side**2 <= MEMORY_LIMIT_BYTES:
            self.images = [image for _, decoded in self._chunks(progress) for image in decoded]

    def _batch(self, rows: Sequence[int]) -> tuple[list[Tensor], Sequence[int]]:
        return [self._decode(row) if self.images is None else self.images[row] for row in rows], rows

    def _decode(self, row: int) -> Tensor:
        image = self.dataset.image(row)
        shorter = min(image.size)
        width, height = (min(side, round(shorter * self.longest)) for side in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        scale = min(1.0, self.side / math.sqrt(width * height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return _pixels(image.resize(size, _BILINEAR, (left, top, left + width, top + height)))


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
