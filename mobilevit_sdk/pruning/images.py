"""Labeled images for pruning: decoded once, with targets that fit the network, in batches that the model takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.data import ImageDataset, crop_image, open_dataset, to_model_input
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.pruning.request import Request
from mobilevit_sdk.quantization.calibrated import synthesized_images
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks import task_of

_BATCH_SIZE = 64
_PIXELS = 2**20  # of the images in a batch of a detector: two of 640x640


class PruningImages:
    """At most `count` images, spread over the dataset and then shuffled by `seed`, so that batches mix the classes.

    Raises RequestError where the dataset does not fit the network, or an image cannot be decoded.
    """

    def __init__(self, dataset: ImageDataset, spec: ModelSpec, count: int, seed: int = 0) -> None:
        self.task = task_of(spec)
        chosen = self.task.match(dataset, training=True).sample(count).checked()
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed)).tolist()
        self.spec, self.dataset = spec, chosen.at(order)
        self.pixels = torch.from_numpy(np.stack([crop_image(chosen.image(row), spec.preprocessing) for row in order]))

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(self, size: int, dtype: torch.dtype = torch.float32) -> Iterator[tuple[Tensor, Any]]:
        """Input of the model, [B, 3, H, W], and what its answers are compared with, in batches of `size` images.

        These are class indices, [B], or the targets of another task. A detector's batches hold fewer large images, so
        that what they need for gradients fits into memory.
        """
        if self.spec.num_queries:
            height, width = self.spec.preprocessing.image_size
            size = max(1, min(size, _PIXELS // (height * width)))
        for start in range(0, len(self), size):
            rows = range(start, min(start + size, len(self)))
            pixels = self.pixels[rows.start : rows.stop]
            yield to_model_input(pixels, self.spec.preprocessing).to(dtype), self._targets(rows)

    def _targets(self, rows: range) -> Any:
        if self.dataset.labels is None:
            return self.task.targets(self.dataset, rows)
        return torch.tensor(self.dataset.labels[rows.start : rows.stop])


def images_for(
    checkpoint: Checkpoint, request: Request, data: ImageDataset | None, progress: Progress = silent
) -> PruningImages | None:
    """Those of `data` that the request takes; without any, synthesized ones where its importance needs some."""
    if data is None and request.importance == "taylor":
        data = open_dataset(synthesized_images(checkpoint, progress), labeled=True)
    if data is None:
        return None
    progress(Step("reading images"))
    return PruningImages(data, checkpoint.spec, request.samples, request.seed)


@torch.no_grad()
def recognized(model: nn.Module, images: PruningImages) -> float:
    """The share of the images that a network, in eval mode, assigns to their class."""
    dtype = next(model.parameters()).dtype
    hits = sum(int((model(batch).argmax(1) == labels).sum()) for batch, labels in images.batches(_BATCH_SIZE, dtype))
    return hits / len(images)
