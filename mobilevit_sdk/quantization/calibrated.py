"""The images that a checkpoint is calibrated with and judged by: the user's own, or synthesized ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mobilevit_sdk.artifacts.quantization_record import QuantizationRecord
from mobilevit_sdk.artifacts.reference import Reference, check_answers, reference_of
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, network_sha256
from mobilevit_sdk.checkpoints.features import classifier_of
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.data.calibration import CalibrationImages, split_images
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import cache_folder, portable
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.quantization.judgment import cases_of
from mobilevit_sdk.quantization.smoothing import Smoothing

# Synthesized without a request, so few enough to wait for; `mobilevit synthesize` makes more.
_MAX_PIXELS = 64 * 64 * 96  # of all images together
_MIN_IMAGES = 24


@dataclass(frozen=True)
class Calibrated:
    """What all integer conversions of one checkpoint share.

    `quantization` holds the recipe and the images for ranges, `held_out` the images to judge by, `reference` the float
    network's answers to those, and `source` says where both came from.
    """

    quantization: Quantization
    held_out: CalibrationImages
    reference: Reference
    source: str
    data_free: bool

    def record(self, smoothing: Smoothing | None = None) -> QuantizationRecord:
        """What the manifest says of the calibration, and of a file whose channels were smoothed so."""
        return QuantizationRecord(
            recipe=self.quantization.recipe,
            images=portable(self.source),
            data_free=self.data_free,
            calibrated_with=len(self.quantization.images),
            images_sha256=self.quantization.images.sha256,
            smoothing=dict(smoothing or {}),
        )

    def made(self, record: QuantizationRecord | None) -> bool:
        """Whether an artifact with this record was made with the same recipe and images."""
        return record is not None and (record.recipe, record.images_sha256) == (
            self.quantization.recipe,
            self.quantization.images.sha256,
        )


def calibration_for(
    checkpoint: Checkpoint,
    recipe: QuantizationRecipe,
    source: ImageDataset | Path | None,
    scratch: Path,
    progress: Progress = silent,
) -> Calibrated:
    """Split the images of `source`; without one, synthesize images from the statistics of the network's BatchNorms.

    Random weights have no such statistics: for them, photographs that every installation has are written to `scratch`.
    There stand the pixels of all images, too, so that each is decoded once: the result is good for as long as `scratch`
    exists. Raises RequestError for too few images, and CheckpointError for a network whose answers are not finite.
    """
    from mobilevit_sdk.quantization.synthetic_file import read_synthesis

    preprocessing = checkpoint.spec.preprocessing
    check_answers(checkpoint.model, preprocessing)
    if source is None and checkpoint.origin.random_weights_seed is not None:
        source = _photographs(checkpoint, scratch)
    elif source is None and checkpoint.spec.num_queries:
        raise RequestError(
            f"no images are synthesized for a detector such as {checkpoint.spec.model}: give `calibration`"
        )
    elif source is None:
        source = synthesized_images(checkpoint, progress)
    dataset = open_dataset(source)
    file = dataset.source
    data_free = isinstance(file, Path) and file.is_file() and read_synthesis(file) is not None
    images, held_out = (
        half.decode_into(scratch / f"{name}.pixels", progress)
        for name, half in zip(("calibrating", "judging"), split_images(dataset, preprocessing), strict=True)
    )
    reference = reference_of(checkpoint.model, preprocessing, cases_of(held_out), progress)
    return Calibrated(Quantization(recipe, images), held_out, reference, str(dataset.source), data_free)


def synthesized_images(checkpoint: Checkpoint, progress: Progress = silent) -> Path:
    """A file of labeled images synthesized from this network, made once, in a minute or more, and kept in the cache."""
    from mobilevit_sdk.quantization.synthesis import SynthesisOptions
    from mobilevit_sdk.quantization.synthetic_file import synthesize

    checkpoint = classifier_of(checkpoint)
    spec = checkpoint.spec
    height, width = spec.preprocessing.image_size
    name = f"{spec.model}-{height}x{width}-{network_sha256(checkpoint.model, spec)[:16]}.parquet"
    path = cache_folder() / "synthesized" / name
    options = SynthesisOptions(images=max(_MIN_IMAGES, min(96, _MAX_PIXELS // (height * width))))
    synthesize(checkpoint, path, options, progress=progress)
    return path


def _photographs(checkpoint: Checkpoint, scratch: Path) -> Path:
    folder = scratch / "scikit-learn's photographs"
    folder.mkdir()
    for index, case in enumerate(builtin_cases(checkpoint.spec.preprocessing)):
        Image.fromarray(np.ascontiguousarray(case.image.transpose(1, 2, 0))).save(folder / f"{index:02d}.png")
    return folder
