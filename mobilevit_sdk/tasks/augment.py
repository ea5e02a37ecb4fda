"""Augmentation of whole batches on the training device; every random number comes from `Draws`.

Geometry (random resized crop, flip, and RandAugment's rotation, shear and translation) is one affine map per image,
sampled once at the input size of the step. Then color, then erasing, then mixing. What becomes of an image before it is
mixed depends on the image, its seed and the recipe alone, to the bit on one device: so nothing here computes over
several images in ways that would round differently in another batch. `AUGMENTATION_VERSION` counts the changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.tasks.draws import Draws

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
PHOTOMETRIC = ("brightness", "contrast", "saturation", "solarize", "posterize", "sharpness")
OPERATIONS = GEOMETRIC + PHOTOMETRIC
JITTERED = ("brightness", "contrast", "saturation")
FACTOR = 0.9  # of brightness, contrast and saturation, at full strength: from 0.1 to 1.9
ERASED_AREA, ERASED_RATIO = (0.02, 1 / 3), 0.3  # shares of the area; height by width from this to its inverse
# Of the images of ImageNet: erased boxes become noise with their mean and spread.
NOISE_MEAN, NOISE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def augment(images: Tensor, size: tuple[int, int], recipe: Recipe, draws: Draws) -> Tensor:
    """Random resized crop, flip, `recipe.augment_ops` operations of RandAugment (arXiv 1909.13719) for each image, and
    random erasing (arXiv 1708.04896).

    Shapes: RGB uint8 [B, 3, S, T] -> float [B, 3, *size] in [0, 1]. Crops vary around the images' own proportions.
    """
    strengths = draw_operations(len(OPERATIONS), recipe, draws)
    crops = _draw_crops(recipe.crop_scale, draws)
    boxes = draw_boxes(recipe, draws)
    x = resample(images, _affine(strengths, crops, images.shape[-1] / images.shape[-2]), size)
    return erase(color(x, strengths[:, len(GEOMETRIC) :]), boxes)


def augment_shapes(
    images: Sequence[Tensor],
    size_of: Callable[[int, float], tuple[int, int]],
    recipe: Recipe,
    draws: Draws,
) -> list[Tensor]:
    """`augment` for images of different shapes, whose crops keep their proportions.

    Shapes: RGB uint8 [3, S, T] each -> float [3, *size] in [0, 1], where `size_of` gives the size for the number of an
    image and its crop's width by height.
    """
    strengths = draw_operations(len(OPERATIONS), recipe, draws)
    crops = _draw_crops(recipe.crop_scale, draws)
    boxes = draw_boxes(recipe, draws)
    groups: dict[tuple[tuple[int, int], torch.Size], list[int]] = {}  # of images that take one call
    for number, image in enumerate(images):
        proportions = image.shape[2] / image.shape[1] * float(crops[0, number].abs() / crops[1, number])
        groups.setdefault((size_of(number, proportions), image.shape), []).append(number)
    found: list[Tensor] = [strengths] * len(images)
    for (size, shape), numbers in groups.items():
        own = strengths[numbers]
        batch = torch.stack([images[number] for number in numbers])
        x = resample(batch, _affine(own, crops[:, numbers], shape[2] / shape[1]), size)
        x = erase(color(x, own[:, len(GEOMETRIC) :]), boxes and boxes.at(numbers))
        for number, image in zip(numbers, x, strict=True):
            found[number] = image
    return found


def resample(images: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Images through an affine map each, `matrix`, [B, 2, 3], from output to input coordinates, which run from -1 to 1.

    Shapes: RGB uint8 [B, 3, S, T] -> float [B, 3, *size] in [0, 1].
    """
    grid = _grid(matrix.to(images.device), size)
    x = images.float() / 255
    shrinks = min(images.shape[-2] // size[0], images.shape[-1] // size[1])
    if shrinks >= 2:
        x = F.avg_pool2d(x, shrinks)  # bilinear sampling alone would skip pixels
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _grid(matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Where each pixel looks, [B, *size, 2].

    `F.affine_grid` is the same but for the rounding, which in its batched product depends on the size of the batch.
    """
    y, x = ((2 * torch.arange(side, device=matrix.device) + 1) / side - 1 for side in size)
    from_x, from_y, shift = matrix[:, None, None].unbind(-1)
    return from_x * x[:, None] + from_y * y[:, None, None] + shift


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


def draw_operations(known: int, recipe: Recipe, draws: Draws) -> Tensor:
    """Signed strengths [B, known] in [-1, 1]; zero for operations, of the last `known`, that an image did not draw."""
    if recipe.color_jitter:
        jitter = (2 * draws.uniform(len(JITTERED)) - 1) * (recipe.color_jitter / FACTOR)
        names = OPERATIONS[-known:]
        return torch.zeros(len(draws), known).index_copy_(1, torch.tensor([*map(names.index, JITTERED)]), jitter)
    chosen = draws.uniform(known).argsort(dim=1, stable=True)[:, : recipe.augment_ops]
    size = draws.uniform(known)[:, : chosen.shape[1]]
    strength = (2 * size - 1) * recipe.augment_magnitude
    if recipe.magnitude_std is not None:
        noise = recipe.magnitude_std * torch.special.ndtri(size.double() + 2**-25)  # none is 0
        sign = torch.where(draws.uniform(known)[:, : chosen.shape[1]] < 0.5, -1.0, 1.0)
        strength = sign * (recipe.augment_magnitude + noise).clamp(0, 1).float()
    if recipe.augment_probability < 1:
        strength *= draws.uniform(known)[:, : chosen.shape[1]] < recipe.augment_probability
    return torch.zeros(len(draws), known).scatter_(1, chosen, strength)


@dataclass(frozen=True)
class ErasedBoxes:
    """What random erasing does to each image: float64 [B, 5] from 0 to 1, and the numbers that its noise draws."""

    uniform: Tensor
    chosen: Tensor  # whether anything is erased, bool [B]
    noise: Draws

    def at(self, rows: Sequence[int]) -> ErasedBoxes:
        """For these of the images alone."""
        return ErasedBoxes(self.uniform[rows], self.chosen[rows], self.noise.at(rows))


def draw_boxes(recipe: Recipe, draws: Draws) -> ErasedBoxes | None:
    """None where the recipe erases nothing."""
    if not recipe.erase_probability:
        return None
    uniform = draws.uniform(5).double()
    return ErasedBoxes(uniform, uniform[:, 0] < recipe.erase_probability, draws.fork())


def erase(x: Tensor, boxes: ErasedBoxes | None) -> Tensor:
    """Random erasing: noise, a number for each pixel and channel, in a box of some images; changes x, [B, 3, S, T].

    A box has an even share of the area within ERASED_AREA, and proportions that are even on a logarithmic scale; a side
    that would be longer than the image's is as long.
    """
    if boxes is None:
        return x
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (NOISE_MEAN, NOISE_STD))
    for row in boxes.chosen.nonzero()[:, 0].tolist():
        _, area, ratio, *place = boxes.uniform[row].tolist()
        area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area) * math.prod(x.shape[2:])
        ratio = ERASED_RATIO ** (1 - 2 * ratio)
        exact = math.sqrt(area * ratio), math.sqrt(area / ratio)
        height, width = (max(1, min(side, round(each))) for side, each in zip(x.shape[2:], exact, strict=True))
        top, left = (
            int(at * (side - own + 1)) for at, side, own in zip(place, x.shape[2:], (height, width), strict=True)
        )
        noise = torch.special.ndtri(boxes.noise.at([row]).uniform(3, height, width)[0].double() + 2**-25)
        x[row, :, top : top + height, left : left + width] = (mean + std * noise).clamp(0, 1).to(x)
    return x


def _draw_crops(crop_scale: tuple[float, float], draws: Draws) -> Tensor:
    """Shares of an image's width, negative where it is flipped, and height, and the crop's center: float64 [4, B].

    In float64, because the last bit of a root or an exponential may depend on its place in the tensor: rounded to
    float32 at the end, the numbers do not.
    """
    uniform = draws.uniform(5).double().T
    area = crop_scale[0] + (crop_scale[1] - crop_scale[0]) * uniform[0]
    ratio = torch.exp((2 * uniform[1] - 1) * math.log(4 / 3))
    width, height = ((area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1))
    flip = torch.where(uniform[2] < 0.5, -1.0, 1.0).double()
    center = (2 * uniform[3] - 1) * (1 - width), (2 * uniform[4] - 1) * (1 - height)
    return torch.stack((width * flip, height, *center))


def _affine(strengths: Tensor, crops: Tensor, proportions: float) -> Tensor:
    """Maps from output to input coordinates, float32 [B, 2, 3]; the coordinates of an image run from -1 to 1.

    `proportions`, width by height, keep angles right angles where an image is no square.
    """
    angle, shear_x, shear_y, move_x, move_y = strengths[:, : len(GEOMETRIC)].double().unbind(1)
    angle = angle * math.radians(60)
    cos, sin = angle.cos(), angle.sin()
    up, along = 0.6 * shear_x / proportions, 0.6 * shear_y * proportions
    width, height, x, y = crops
    # The products of [[cos, -sin / p], [sin p, cos]], the shear [[1, up], [along, 1]], and the crop, a diagonal.
    rows = (
        ((cos - sin / proportions * along) * width, (cos * up - sin / proportions) * height, x + 0.6 * move_x),
        ((sin * proportions + cos * along) * width, (sin * proportions * up + cos) * height, y + 0.6 * move_y),
    )
    return torch.stack([torch.stack(row, 1) for row in rows], 1).float()


def color(x: Tensor, strengths: Tensor) -> Tensor:
    """The photometric operations, each on the images that drew it, in the order of PHOTOMETRIC but for contrast.

    Contrast follows saturation. Values are cut to [0, 1] after sharpness. Shapes: x [B, 3, S, T] in [0, 1], which is
    changed; `strengths` [B, photometric operations], on the CPU, so that no accelerator waits -> x.
    """
    for name in ("brightness", "saturation", "contrast", "sharpness", "solarize", "posterize"):
        own = strengths[:, PHOTOMETRIC.index(name)]
        rows = own.nonzero()[:, 0]
        if len(rows):
            rows, s = rows.to(x.device), own[rows].to(x.device).view(-1, 1, 1, 1)
            x[rows] = _COLORS[name](x[rows], s)
        if name == "sharpness":
            x = x.clamp_(0, 1)
    return x


def _gray(x: Tensor) -> Tensor:
    return (x * torch.tensor([0.299, 0.587, 0.114], device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _brightness(x: Tensor, s: Tensor) -> Tensor:
    return x * (1 + FACTOR * s)


def _saturation(x: Tensor, s: Tensor) -> Tensor:
    gray = _gray(x)
    return gray + (x - gray) * (1 + FACTOR * s)


def _contrast(x: Tensor, s: Tensor) -> Tensor:
    mean = (
        _gray(x).mean(3, keepdim=True).mean(2, keepdim=True)
    )  # one sum over all is cut into parts by the batch's size
    return mean + (x - mean) * (1 + FACTOR * s)


def _sharpness(x: Tensor, s: Tensor) -> Tensor:
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return blurred + (x - blurred) * (1 + 2 * FACTOR * s)


def _solarize(x: Tensor, s: Tensor) -> Tensor:
    return torch.where(x > 1 - s.abs(), 1 - x, x)


def _posterize(x: Tensor, s: Tensor) -> Tensor:
    levels = 2 ** (8 - (6 * s.abs()).round())
    return (x * 255 / 256 * levels).floor() / (levels - 1)


_COLORS = {
    "brightness": _brightness,
    "saturation": _saturation,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "solarize": _solarize,
    "posterize": _posterize,
}


def draw_beta(a: float, b: float, generator: torch.Generator) -> float:
    """A draw from Beta(a, b) (Johnk's method: torch's own beta sampler takes no generator)."""
    powers = torch.tensor([1 / a, 1 / b], dtype=torch.float64)
    while True:
        u, v = (torch.rand(2, generator=generator, dtype=torch.float64) ** powers).tolist()
        if 0 < u + v <= 1:
            return float(u / (u + v))
