"""Labeled images for pruning: decoded once, with labels that fit the head, in batches that the model takes."""

from __future__ import annotations

from collections.abc import Iterator

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


class PruningImages:
    """At most `count` images, spread over the dataset and then shuffled by `seed`, so that batches mix the classes.

    Raises RequestError where the classes of the dataset do not fit the head, or an image cannot be decoded.
    """

    def __init__(self, dataset: ImageDataset, spec: ModelSpec, count: int, seed: int = 0) -> None:
        self.task = task_of(spec)
        chosen = self.task.match(dataset, training=True).sample(count).checked()
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed)).tolist()
        assert chosen.labels is not None
        self.spec = spec
        self.labels = torch.tensor([chosen.labels[row] for row in order])
        self.pixels = torch.from_numpy(np.stack([crop_image(chosen.image(row), spec.preprocessing) for row in order]))

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int, dtype: torch.dtype = torch.float32) -> Iterator[tuple[Tensor, Tensor]]:
        """Input of the model, [B, 3, H, W], and class indices, [B], in batches of `size` images."""
        for pixels, labels in zip(torch.split(self.pixels, size), torch.split(self.labels, size), strict=True):
            yield to_model_input(pixels, self.spec.preprocessing).to(dtype), labels


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
