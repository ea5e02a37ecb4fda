"""What the manifest of an integer artifact says about its calibration and its accuracy."""

from __future__ import annotations

from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.spec import Strict


class Judgment(Strict, frozen=True, kw_only=True):
    """Accuracy compared with the float network, on images that it was not calibrated with. Shares are 0 to 1."""

    runtime: str
    images: int
    agreement: float  # share of the images with the float network's class
    min_agreement: float  # below which the artifact is rejected
    worst_sqnr_db: float  # of the scores on the worst image
    median_sqnr_db: float
    top1_float: float | None  # None where the images have no labels of this head
    top1: float | None
    rejected: bool

    @property
    def top1_drop(self) -> float | None:
        """Top-1 lost to the float network, in percentage points."""
        return None if self.top1 is None or self.top1_float is None else 100 * (self.top1_float - self.top1)

    def in_words(self) -> str:
        words = f"{self.agreement:.1%} of {self.images} images keep their class on {self.runtime}"
        words += f", worst image {self.worst_sqnr_db:.1f} dB"
        if self.top1_drop is not None:
            words += f", top-1 {self.top1:.2%} ({0 - round(self.top1_drop, 2):+.2f} points)"
        return words


class QuantizationRecord(Strict, frozen=True, kw_only=True):
    """The recipe, the calibration images and the judgment."""

    recipe: QuantizationRecipe
    images: str  # their source
    data_free: bool  # synthesized from the network's own BatchNorm statistics
    calibrated_with: int
    images_sha256: str
    judgment: Judgment | None = None  # None for random weights, which have no task
