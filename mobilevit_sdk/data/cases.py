"""What the gate asks: real photographs, cropped and varied, and inputs that break things."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from mobilevit_sdk.data import ImageDataset, crop_image, open_dataset
from mobilevit_sdk.data.pictures import decode_picture
from mobilevit_sdk.spec import Preprocessing, nearest_size

Role = Literal["image", "view", "edge"]

# Share of the photograph (left, top, right, bottom) and what is done to it.
_VIEWS: dict[str, tuple[tuple[float, float, float, float], Callable[[Image.Image], Image.Image]]] = {
    "whole": ((0.0, 0.0, 1.0, 1.0), lambda image: image),
    "mirrored": ((0.0, 0.0, 1.0, 1.0), ImageOps.mirror),
    "center": ((0.25, 0.25, 0.75, 0.75), lambda image: image),
    "top left": ((0.0, 0.0, 0.5, 0.5), lambda image: image),
    "bottom right": ((0.5, 0.5, 1.0, 1.0), lambda image: image),
    "dark": ((0.1, 0.0, 0.9, 1.0), lambda image: ImageEnhance.Brightness(image).enhance(0.35)),
    "overexposed": ((0.1, 0.0, 0.9, 1.0), lambda image: ImageEnhance.Brightness(image).enhance(2.2)),
    "gray": ((0.0, 0.1, 1.0, 0.9), ImageOps.grayscale),
    "negative": ((0.2, 0.1, 0.8, 0.9), ImageOps.invert),
    "turned": ((0.0, 0.2, 1.0, 0.8), lambda image: image.transpose(Image.Transpose.ROTATE_90)),
}


def builtin_cases(preprocessing: Preprocessing) -> tuple[Case, ...]:
    """Ten views of each of scikit-learn's two photographs, then the edge cases; the same on every machine."""
    cases = []
    for file in photographs():
        photograph = decode_picture(file.read_bytes())
        for name, (box, vary) in _VIEWS.items():
            width, height = photograph.size
            view = photograph.crop(
                (int(box[0] * width), int(box[1] * height), int(box[2] * width), int(box[3] * height))
            )
            cases.append(Case(f"{file.stem}, {name}", crop_image(vary(view), preprocessing), role="view"))
    return (*cases, *_edge_cases(preprocessing.image_size, cases[0].image))


def photographs() -> tuple[Path, ...]:
    """The two that scikit-learn carries, found without importing it, which takes over a second."""
    installed = find_spec("sklearn")
    assert installed is not None
    assert installed.submodule_search_locations
    folder = Path(installed.submodule_search_locations[0], "datasets", "images")
    return folder / "china.jpg", folder / "flower.jpg"


def _edge_cases(size: tuple[int, int], photograph: np.ndarray) -> list[Case]:
    height, width = size
    rows, columns = np.indices(size)
    bright_pixel = np.zeros((3, height, width), np.uint8)
    bright_pixel[:, height // 3, width // 3] = 255
    primaries = np.stack([np.where((rows * 3 // height + c) % 3 == 0, 255, 0) for c in range(3)]).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)
    edges = [
        Case("zeros", np.zeros((3, height, width), np.uint8)),
        Case("ones", np.full((3, height, width), 255, np.uint8)),
        Case("extremes, checkerboard", np.broadcast_to((rows + columns) % 2 * 255, noise.shape).astype(np.uint8)),
        Case("extremes, primaries", primaries),
        Case("one bright pixel", bright_pixel),
        Case("noise", noise),
    ]
    return [
        *(dataclasses.replace(case, role="edge") for case in edges),
        Case("photograph in non-contiguous memory", photograph, contiguous=False, role="view"),
    ]


MAX_IMAGES = 500


def image_cases(
    source: ImageDataset | Path | str,
    preprocessing: Preprocessing,
    *,
    limit: int = MAX_IMAGES,
    sizes: Sequence[tuple[int, int]] = (),
) -> tuple[Case, ...]:
    """The images of a folder or Parquet file as cases, at most `limit`, evenly spread. Raises RequestError for none.

    Of a file with several input `sizes`, those images whose nearest size is that of `preprocessing`: maybe none.
    """
    dataset = open_dataset(source).sample(limit).checked()
    cases = []
    for index, name in enumerate(dataset.names):
        image = dataset.image(index)
        if not sizes or nearest_size(*image.size, sizes) == preprocessing.image_size:
            cases.append(Case(name, crop_image(image, preprocessing)))
    return tuple(cases)


@dataclass(frozen=True)
class Case:
    """One image that an artifact is asked about: RGB uint8 [3, H, W]; `contiguous` says how it lies in memory.

    `role`: an "image" of the user's, a "view" of a photograph that every installation has, or an "edge" case.
    """

    name: str
    image: np.ndarray
    contiguous: bool = True
    role: Role = "image"

    def as_passed(self) -> np.ndarray:
        """The image in the memory layout of the case: where it is not contiguous, channels come last."""
        return self.image if self.contiguous else self.image.transpose(1, 2, 0).copy().transpose(2, 0, 1)
