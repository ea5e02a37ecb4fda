"""A checkpoint with images to calibrate and to judge by: the user's own, or synthesized where there are none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mobilevit_sdk.artifacts.quantization_record import Judgment, QuantizationRecord
from mobilevit_sdk.artifacts.reference import Reference, reference_of
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, network_sha256
from mobilevit_sdk.data.calibration import CalibrationImages, split_images
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.files import cache_folder
from mobilevit_sdk.formats.quantization import Quantization, QuantizationRecipe
from mobilevit_sdk.progress import Report
from mobilevit_sdk.quantization.judgment import cases_of

# Synthesized without being asked for, so few enough to wait for; `mobilevit synthesize` makes more.
_PIXELS = 64 * 64 * 96  # in all
_MIN_IMAGES = 24


@dataclass(frozen=True)
class Calibrated:
    """What the conversions of one checkpoint to integers share; `reference` are its answers for `held_out`."""

    quantization: Quantization
    held_out: CalibrationImages
    reference: Reference
    source: str
    data_free: bool

    def record(self, judgment: Judgment | None = None) -> QuantizationRecord:
        return QuantizationRecord(
            recipe=self.quantization.recipe,
            images=self.source,
            data_free=self.data_free,
            calibrated_with=len(self.quantization.images),
            images_sha256=self.quantization.images.sha256,
            judgment=judgment,
        )

    def made(self, record: QuantizationRecord | None) -> bool:
        """Whether an artifact with this record was made with the same recipe and images."""
        return record is not None and (record.recipe, record.images_sha256) == (
            self.quantization.recipe,
            self.quantization.images.sha256,
        )


def calibrate(
    checkpoint: Checkpoint,
    recipe: QuantizationRecipe,
    source: Path | None,
    scratch: Path,
    report: Report = lambda what, done, total: None,
) -> Calibrated:
    """Take the images of `source`; without one, synthesize them from what the network's BatchNorms remember.

    Random weights remember nothing: for them, the photographs that every installation has are written to `scratch`.
    Raises RequestError for too few images.
    """
    from mobilevit_sdk.quantization.synthetic_file import read_synthesis

    preprocessing = checkpoint.spec.preprocessing
    if source is None and checkpoint.origin.random_weights_seed is not None:
        source = _photographs(checkpoint, scratch)
    elif source is None:
        source = _synthesized(checkpoint, report)
    data_free = source.is_file() and read_synthesis(source) is not None
    images, held_out = split_images(source, preprocessing)
    reference = reference_of(checkpoint.model, preprocessing, cases_of(held_out))
    return Calibrated(Quantization(recipe, images), held_out, reference, str(source), data_free)


def _synthesized(checkpoint: Checkpoint, report: Report) -> Path:
    """Images of this network, made once and kept in the cache."""
    from mobilevit_sdk.quantization.synthesis import SynthesisOptions
    from mobilevit_sdk.quantization.synthetic_file import synthesize

    spec = checkpoint.spec
    height, width = spec.preprocessing.image_size
    name = f"{spec.model}-{height}x{width}-{network_sha256(checkpoint.model, spec)[:16]}.parquet"
    path = cache_folder() / "synthesized" / name
    options = SynthesisOptions(images=max(_MIN_IMAGES, min(96, _PIXELS // (height * width))))
    synthesize(checkpoint, path, options, lambda at: report("synthesizing images", at.steps_done, at.steps))
    return path


def _photographs(checkpoint: Checkpoint, scratch: Path) -> Path:
    folder = scratch / "scikit-learn's photographs"
    folder.mkdir()
    for index, case in enumerate(builtin_cases(checkpoint.spec.preprocessing)):
        Image.fromarray(np.ascontiguousarray(case.image.transpose(1, 2, 0))).save(folder / f"{index:02d}.png")
    return folder
