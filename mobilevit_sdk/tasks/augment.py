"""Augmentation of whole batches on the training device; every random number comes from `generator`.

Geometry (random resized crop, flip, and RandAugment's rotation, shear and translation) is one affine map per image,
sampled once at the input size of the step. Then color, then mixing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilevit_sdk.recipe import Recipe

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
PHOTOMETRIC = ("brightness", "contrast", "saturation", "solarize", "posterize", "sharpness")
OPERATIONS = GEOMETRIC + PHOTOMETRIC


def augment(images: Tensor, size: tuple[int, int], recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Random resized crop, flip and, for each image, `recipe.augment_ops` operations of RandAugment (arXiv 1909.13719).

    Shapes: RGB uint8 [B, 3, S, T] -> float [B, 3, *size] in [0, 1]. Crops vary around the images' own proportions.
    """
    strengths = draw_operations(len(images), len(OPERATIONS), recipe, generator).to(images.device)
    crops = _draw_crops(len(images), recipe.crop_scale, generator)
    x = resample(images, _affine(strengths, crops, images.shape[-1] / images.shape[-2]), size)
    return color(x, strengths[:, len(GEOMETRIC) :])


def augment_shapes(
    images: Sequence[Tensor],
    size_of: Callable[[int, float], tuple[int, int]],
    recipe: Recipe,
    generator: torch.Generator,
) -> list[Tensor]:
    """`augment` for images of different shapes, whose crops keep their proportions.

    Shapes: RGB uint8 [3, S, T] each -> float [3, *size] in [0, 1], where `size_of` gives the size for the number of an
    image and its crop's width by height.
    """
    strengths = draw_operations(len(images), len(OPERATIONS), recipe, generator)
    crops = _draw_crops(len(images), recipe.crop_scale, generator)
    groups: dict[tuple[tuple[int, int], torch.Size], list[int]] = {}  # of images that take one call
    for number, image in enumerate(images):
        proportions = image.shape[2] / image.shape[1] * float(crops[0, number].abs() / crops[1, number])
        groups.setdefault((size_of(number, proportions), image.shape), []).append(number)
    found: list[Tensor] = [strengths] * len(images)
    for (size, shape), numbers in groups.items():
        own = strengths[numbers]
        batch = torch.stack([images[number] for number in numbers])
        x = resample(batch, _affine(own, crops[:, numbers], shape[2] / shape[1]), size)
        for number, image in zip(numbers, color(x, own[:, len(GEOMETRIC) :].to(x.device)), strict=True):
            found[number] = image
    return found


def resample(images: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Images through an affine map each, `matrix`, [B, 2, 3], from output to input coordinates, which run from -1 to 1.

    Shapes: RGB uint8 [B, 3, S, T] -> float [B, 3, *size] in [0, 1].
    """
    grid = F.affine_grid(matrix.to(images.device), [len(images), 3, *size], align_corners=False)
    x = images.float() / 255
    shrinks = min(images.shape[-2] // size[0], images.shape[-1] // size[1])
    if shrinks >= 2:
        x = F.avg_pool2d(x, shrinks)  # bilinear sampling alone would skip pixels
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def mix(images: Tensor, targets: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup (arXiv 1710.09412) or cutmix (arXiv 1905.04899) of the batch with its reverse, or neither.

    Shapes: images [B, 3, S, T] and class probabilities `targets` [B, num_classes] -> the same, mixed alike.
    """
    use, kind = torch.rand(2, generator=generator).tolist()
    share = draw_beta(recipe.mix_alpha, recipe.mix_alpha, generator)
    if use >= recipe.mix_probability:
        return images, targets
    if kind < 0.5:
        images = share * images + (1 - share) * images.flip(0)
    else:
        sides = images.shape[-2:]
        cut = [round(side * math.sqrt(1 - share)) for side in sides]
        at = torch.rand(2, generator=generator).tolist()
        top, left = (int(v * (side - own + 1)) for v, side, own in zip(at, sides, cut, strict=True))
        box = (..., slice(top, top + cut[0]), slice(left, left + cut[1]))
        images, other = images.clone(), images.flip(0)
        images[box] = other[box]
        share = 1 - math.prod(cut) / math.prod(sides)  # of the pixels of `images`
    return images, share * targets + (1 - share) * targets.flip(0)


def draw_operations(batch: int, known: int, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Signed strengths [B, known] in [-1, 1]; zero for operations, of those `known`, that an image did not draw."""
    chosen = torch.rand(batch, known, generator=generator).argsort(1)[:, : recipe.augment_ops]
    strength = (2 * torch.rand(*chosen.shape, generator=generator) - 1) * recipe.augment_magnitude
    return torch.zeros(batch, known).scatter_(1, chosen, strength)


def _draw_crops(batch: int, crop_scale: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Shares of an image's width, negative where it is flipped, and height, and the crop's center: [4, batch]."""
    uniform = torch.rand(5, batch, generator=generator)
    area = crop_scale[0] + (crop_scale[1] - crop_scale[0]) * uniform[0]
    ratio = torch.exp((2 * uniform[1] - 1) * math.log(4 / 3))
    width, height = ((area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1))
    flip = torch.where(uniform[2] < 0.5, -1.0, 1.0)
    center = (2 * uniform[3] - 1) * (1 - width), (2 * uniform[4] - 1) * (1 - height)
    return torch.stack((width * flip, height, *center))


def _affine(strengths: Tensor, crops: Tensor, proportions: float) -> Tensor:
    """Maps from output to input coordinates, [B, 2, 3]; the coordinates of an image run from -1 to 1.

    `proportions`, width by height, keep angles right angles where an image is no square.
    """
    angle, shear_x, shear_y, move_x, move_y = strengths[:, : len(GEOMETRIC)].cpu().unbind(1)
    angle = angle * math.radians(60)
    cos, sin, one = angle.cos(), angle.sin(), torch.ones(len(angle))
    rotate = torch.stack((cos, -sin / proportions, sin * proportions, cos), 1).view(-1, 2, 2)
    shear = torch.stack((one, 0.6 * shear_x / proportions, 0.6 * shear_y * proportions, one), 1).view(-1, 2, 2)
    crop = torch.diag_embed(crops[:2].T)
    center = crops[2:].T + 0.6 * torch.stack((move_x, move_y), 1)
    return torch.cat((rotate @ shear @ crop, center.unsqueeze(2)), dim=2)


def color(x: Tensor, strengths: Tensor) -> Tensor:
    """The photometric operations, each the identity at strength 0.

    Shapes: x [B, 3, S, T] in [0, 1], `strengths` [B, photometric operations] -> the shape of x.
    """
    s = {name: strengths[:, index].view(-1, 1, 1, 1) for index, name in enumerate(PHOTOMETRIC)}
    x = x * (1 + 0.9 * s["brightness"])
    gray = (x * torch.tensor([0.299, 0.587, 0.114], device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    x = gray + (x - gray) * (1 + 0.9 * s["saturation"])
    mean = gray.mean((2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + 0.9 * s["contrast"])
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = (blurred + (x - blurred) * (1 + 1.8 * s["sharpness"])).clamp(0, 1)
    x = torch.where(x > 1 - s["solarize"].abs(), 1 - x, x)
    levels = 2 ** (8 - (6 * s["posterize"].abs()).round())
    return torch.where(s["posterize"] == 0, x, (x * 255 / 256 * levels).floor() / (levels - 1))


def draw_beta(a: float, b: float, generator: torch.Generator) -> float:
    """A draw from Beta(a, b) (Johnk's method: torch's own beta sampler takes no generator)."""
    powers = torch.tensor([1 / a, 1 / b], dtype=torch.float64)
    while True:
        u, v = (torch.rand(2, generator=generator, dtype=torch.float64) ** powers).tolist()
        if 0 < u + v <= 1:
            return float(u / (u + v))
