"""Augmentation that moves boxes with their pictures; every random number comes from `Draws`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.tasks.augment import PHOTOMETRIC, color, draw_boxes, draw_operations, erase, resample
from mobilevit_sdk.tasks.detection.targets import BoxTargets
from mobilevit_sdk.tasks.draws import Draws

CROPPED_SHARE = 0.5  # of the pictures, as the authors of DETR train; the others are seen whole


def augment_boxes(
    images: Tensor, targets: BoxTargets, size: tuple[int, int], recipe: Recipe, draws: Draws
) -> tuple[Tensor, BoxTargets]:
    """Flip, for half of the pictures a random crop, `recipe.augment_ops` operations that change colors alone, erasing.

    What a crop leaves of a box is the box; one that it leaves nothing of is gone. Shapes: RGB uint8 [B, 3, S, T] ->
    float [B, 3, *size] in [0, 1].
    """
    strengths = draw_operations(len(PHOTOMETRIC), recipe, draws)
    corner, extent, flipped = _regions(recipe.crop_scale, draws)
    scale = extent * torch.stack([1 - 2.0 * flipped, torch.ones(len(images))], 1)
    erased = draw_boxes(recipe, draws)
    matrix = torch.cat([torch.diag_embed(scale), (2 * corner + extent - 1).unsqueeze(2)], 2)
    moved = [
        _within(classes, boxes, corner[row].to(boxes), extent[row].to(boxes), bool(flipped[row]))
        for row, (classes, boxes) in enumerate(zip(targets.classes, targets.boxes, strict=True))
    ]
    objects = BoxTargets([classes for classes, _ in moved], [boxes for _, boxes in moved])
    return erase(color(resample(images, matrix, size), strengths), erased), objects


def _regions(crop_scale: tuple[float, float], draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """What is seen of each picture, as shares: upper left corners and extents, [B, 2], x first; whether it is flipped.

    The area of a crop is a share of the picture within `crop_scale`, its sides of 3:4 to 4:3 of the picture's.
    """
    uniform = draws.uniform(6).double().T  # see `augment`: rounded to float32, nothing depends on the batch
    area = crop_scale[0] + (crop_scale[1] - crop_scale[0]) * uniform[0]
    ratio = torch.exp((2 * uniform[1] - 1) * math.log(4 / 3))
    extent = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=1)
    extent = torch.where(uniform[2][:, None] < CROPPED_SHARE, extent, 1.0)
    corner = uniform[3:5].T * (1 - extent)
    return corner.float(), extent.float(), uniform[5] < 0.5


def _within(classes: Tensor, boxes: Tensor, corner: Tensor, extent: Tensor, flipped: bool) -> tuple[Tensor, Tensor]:
    """The objects of one picture as shares of a region of it, cut at its edges."""
    low, high = (((boxes[:, :2] + sign * boxes[:, 2:] / 2 - corner) / extent).clamp(0, 1) for sign in (-1, 1))
    if flipped:
        low, high = (torch.stack([1 - x[:, 0], y[:, 1]], 1) for x, y in ((high, low), (low, high)))
    left = (high > low).all(1)
    moved = torch.cat([(low + high) / 2, high - low], 1)
    return classes[left], moved[left]
