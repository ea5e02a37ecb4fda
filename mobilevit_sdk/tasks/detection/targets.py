"""The objects of a batch of pictures, as a network is to answer them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mobilevit_sdk.data import ImageDataset


@dataclass(frozen=True)
class BoxTargets:
    """For each picture class indices [n] and boxes [n, 4]: center x, center y, width and height as shares of it.

    `divisors` are what the loss of a part of a batch divides by: the number of objects, and the weight of all queries.
    """

    classes: list[Tensor]
    boxes: list[Tensor]
    divisors: tuple[float, float] | None = None

    def to(self, device: torch.device) -> BoxTargets:
        """The same on another device."""
        return BoxTargets([each.to(device) for each in self.classes], [each.to(device) for each in self.boxes])

    @property
    def count(self) -> int:
        """Objects of all pictures."""
        return sum(map(len, self.classes))


def box_targets(dataset: ImageDataset, rows: Sequence[int]) -> BoxTargets:
    """Of these pictures of a checked dataset. Crowds are left out: they are no object, and no lack of one either."""
    assert dataset.objects is not None
    classes, boxes = [], []
    for row in rows:
        found = dataset.objects[row]
        assert found.size is not None
        single = ~found.crowd
        corner, size = np.split(found.boxes[single].astype(np.float64), 2, axis=1)
        shares = np.concatenate([corner + size / 2, size], axis=1) / np.tile(found.size, 2)
        classes.append(torch.from_numpy(found.classes[single].astype(np.int64)))
        boxes.append(torch.from_numpy(shares.astype(np.float32)))
    return BoxTargets(classes, boxes)
