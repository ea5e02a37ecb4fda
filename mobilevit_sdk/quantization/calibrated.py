"""A checkpoint with images to calibrate and to judge by: the user's own, or synthesised where there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mobilevit_sdk.artifact import Reference
from mobilevit_sdk.checkpoint import Checkpoint
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.parity import reference_of
from mobilevit_sdk.quantization.calibration import CalibrationImages, split_images
from mobilevit_sdk.quantization.judgement import cases_of
from mobilevit_sdk.quantization.recipe import Quantization, QuantizationRecipe
from mobilevit_sdk.quantization.record import Judgement, QuantizationRecord


@dataclass(frozen=True)
class Calibrated:
    """What the conversions of one checkpoint to integers share; `reference` are its answers for `held_out`."""

    quantization: Quantization
    held_out: CalibrationImages
    reference: Reference
    source: str
    data_free: bool

    def record(self, judgement: Judgement | None = None) -> QuantizationRecord:
        return QuantizationRecord(
            recipe=self.quantization.recipe,
            images=self.source,
            data_free=self.data_free,
            calibrated_with=len(self.quantization.images),
            images_sha256=self.quantization.images.sha256,
            judgement=judgement,
        )

    def made(self, record: QuantizationRecord | None) -> bool:
        """Whether an artefact with this record was made with the same recipe and images."""
        return record is not None and (record.recipe, record.images_sha256) == (
            self.quantization.recipe,
            self.quantization.images.sha256,
        )


def calibrate(
    checkpoint: Checkpoint,
    recipe: QuantizationRecipe,
    source: Path | None,
    scratch: Path,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Calibrated:
    """Take the images of `source`, or synthesise them into `scratch`. Raises RequestError for too few of them."""
    preprocessing = checkpoint.spec.preprocessing
    if source is None:
        raise RequestError("no images to calibrate with: give --calibration")
    images, held_out = split_images(source, preprocessing)
    reference = reference_of(checkpoint.model, preprocessing, cases_of(held_out))
    return Calibrated(Quantization(recipe, images), held_out, reference, str(source), source is None)
