"""Images to calibrate with, and others to judge by: read, cropped and forgotten one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mobilevit_sdk.data import ImageDataset, crop_image, open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.progress import Progress, counted, silent
from mobilevit_sdk.spec import Preprocessing

MIN_IMAGES, MAX_IMAGES = 10, 256


@dataclass(frozen=True)
class CalibrationImages:
    """Some images of a folder or a Parquet file, with labels where it has any, as the phone graph takes them.

    Iterating gives RGB float32 [1, 3, H, W] in [0, 1], anew each time. Travels to another process without its pixels.
    Raises RequestError for an image that cannot be decoded.
    """

    dataset: ImageDataset
    preprocessing: Preprocessing
    decoded: Path | None = None  # their pixels, as `decode_into` wrote them
    progress: Progress = silent  # counts the images that an iteration is done with, as "calibrate"

    def __getstate__(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("dataset", "preprocessing", "decoded")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, progress=silent)

    @cached_property
    def sha256(self) -> str:
        """Of the pixels, in order."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(self.pixels(index).tobytes())
        return digest.hexdigest()

    def decode_into(self, file: Path, progress: Progress = silent) -> CalibrationImages:
        """These images, from now on read from `file`, which gets their pixels.

        To decode a photograph takes longer than to run it through a small network, and every conversion reads each
        image several times. `progress` counts them. Raises RequestError where `file` cannot be written.
        """
        with replacing(file) as fresh, fresh.open("wb") as stream:
            for index in counted(range(len(self)), "reading images", progress):
                stream.write(np.ascontiguousarray(self.pixels(index)).data)
        return replace(self, decoded=file)

    @cached_property
    def _pixels(self) -> np.ndarray:
        assert self.decoded is not None
        return np.memmap(self.decoded, np.uint8, "r", shape=(len(self), 3, *self.preprocessing.image_size))

    def pixels(self, index: int) -> np.ndarray:
        """Image `index`, RGB uint8 [3, H, W]."""
        if self.decoded is not None:
            return np.array(self._pixels[index])
        return crop_image(self.dataset.image(index), self.preprocessing)

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[np.ndarray]:
        for index in counted(range(len(self)), "calibrate", self.progress):
            yield self.pixels(index)[None].astype(np.float32) / 255


def split_images(
    source: ImageDataset | Path | str, preprocessing: Preprocessing
) -> tuple[CalibrationImages, CalibrationImages]:
    """Images to calibrate with and others to judge by: at most 256 of each, both spread evenly over the source.

    Of few images, two in three calibrate. Raises RequestError for fewer than ten, and for broken images.
    """
    dataset = open_dataset(source)
    total = len(dataset)
    if total < MIN_IMAGES:
        raise RequestError(f"{dataset.source} holds {total} images; to calibrate and to judge take 100 to 500 of them")
    some = dataset.sample(2 * MAX_IMAGES).checked()
    judging = [index for index in range(len(some)) if index % (2 if total >= 2 * MAX_IMAGES else 3) == 1]
    held_out = set(judging)
    calibrating = [index for index in range(len(some)) if index not in held_out]
    return (
        CalibrationImages(some.at(calibrating).sample(MAX_IMAGES), preprocessing),
        CalibrationImages(some.at(judging).sample(MAX_IMAGES), preprocessing),
    )
