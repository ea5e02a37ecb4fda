"""The two halves of preprocessing: what an app does to a picture, and what the phone graph does to its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mobilevit_sdk.data.pictures import to_rgb
from mobilevit_sdk.spec import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def crop_image(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Resize and crop the center: an image -> RGB uint8 [3, H, W], as an app would pass it. See `to_rgb` for modes.

    An image whose crop would be larger than the resized picture is resized until it holds the crop. Of a strip that is
    more than 16 times as long as wide, only the middle is resized: the rest would take gigabytes and be cropped away.
    """
    height, width = preprocessing.image_size
    resampling = _RESAMPLING[preprocessing.interpolation]
    image = to_rgb(image)
    if preprocessing.resize_mode == "squash":
        return _pixels(_resized(image, width, height, resampling))
    longest = 16 * min(image.size)
    if max(image.size) > longest:
        image = _center(image, min(image.width, longest), min(image.height, longest))
    scale = max(preprocessing.resize_size / min(image.size), width / image.width, height / image.height)
    image = _resized(
        image, max(width, round(image.width * scale)), max(height, round(image.height * scale)), resampling
    )
    return _pixels(_center(image, width, height))


def seen_region(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """What `crop_image` keeps of an image of `size`, (width, height): x, y, width and height in its pixels.

    To a fraction of a pixel: the resized sides are whole numbers.
    """
    if preprocessing.resize_mode == "squash":
        return 0.0, 0.0, float(size[0]), float(size[1])
    height, width = preprocessing.image_size
    scale = max(preprocessing.resize_size / min(size), width / size[0], height / size[1])
    seen = (width / scale, height / scale)
    return (size[0] - seen[0]) / 2, (size[1] - seen[1]) / 2, seen[0], seen[1]


def _resized(image: Image.Image, width: int, height: int, resampling: Image.Resampling) -> Image.Image:
    """Rows first, then columns: in one call, Pillow's order depends on its version and on the sizes."""
    return image.resize((width, image.height), resampling).resize((width, height), resampling)


def _center(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _pixels(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def to_model_input(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """RGB uint8 [B, 3, H, W], or floats in [0, 1], -> what the reference model takes: floats, ordered, normalized."""
    import torch

    x = images.float() / 255 if images.dtype == torch.uint8 else images
    if preprocessing.channel_order == "bgr":
        x = x.flip(1)
    mean = torch.tensor(preprocessing.mean, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return (x - mean) / std
