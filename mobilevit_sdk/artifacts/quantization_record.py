"""What the manifest of an integer artifact says about its calibration and its accuracy."""

from __future__ import annotations

import msgspec

from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.text import of_all, percent

MANY_IMAGES = 100  # to judge by


class Judgment(Strict, frozen=True, kw_only=True):
    """Accuracy compared with the float network, on images that it was not calibrated with. Shares are 0 to 1."""

    runtime: str
    images: int
    agreement: float | None  # share of the images with the float network's class; None for features
    min_agreement: float  # below which the artifact is rejected
    overall_sqnr_db: float | None = None  # of all images together; None in manifests of before
    min_sqnr_db: float | None = None  # below which the artifact is rejected
    worst_sqnr_db: float  # of the scores on the worst image
    median_sqnr_db: float
    top1_float: float | None  # None where the images have no labels of this head
    top1: float | None
    objects: int | msgspec.UnsetType = msgspec.UNSET  # that a float detector finds: the agreement is the share of these
    ap_float: float | msgspec.UnsetType = msgspec.UNSET  # average precision of a detector, where there are labels
    ap: float | msgspec.UnsetType = msgspec.UNSET
    rejected: bool
    reasons: tuple[str, ...] = ()  # of a rejection, each with its bar

    @property
    def top1_drop(self) -> float | None:
        """Top-1 lost to the float network, in percentage points."""
        return None if self.top1 is None or self.top1_float is None else 100 * (self.top1_float - self.top1)

    @property
    def ap_drop(self) -> float | None:
        """Average precision lost to the float network, in percentage points."""
        return None if self.ap is msgspec.UNSET or self.ap_float is msgspec.UNSET else 100 * (self.ap_float - self.ap)

    @property
    def counted(self) -> int:
        """How many keep their class, or do not: one of them is the finest share that can be told."""
        return self.objects or self.images

    def in_words(self) -> str:
        words = ""
        if self.agreement is not None:
            keeping = "objects keep their class and place" if self.objects else "images keep their class"
            share, counted = of_all(self.agreement, self.counted, keeping), self.counted
            words = f"{share} ({percent(self.agreement)}, at least {percent(self.min_agreement)}; one is "
            words += f"{100 / counted:.2g} points{self._decided()}), "
        if self.overall_sqnr_db is not None:
            words += f"SQNR {self.overall_sqnr_db:.1f} dB (at least {self.min_sqnr_db:g} dB), "
        words += f"worst image {self.worst_sqnr_db:.1f} dB"
        if self.top1_drop is not None:
            words += f", top-1 {self.top1:.2%} ({0 - round(self.top1_drop, 2):+.2f} points)"
        if self.ap_drop is not None:
            words += f", AP {self.ap:.2%} ({0 - round(self.ap_drop, 2):+.2f} points)"
        return f"{words}, on {self.runtime}"

    def _decided(self) -> str:
        """What accepted a share below the minimum."""
        short = self.agreement is not None and self.agreement < self.min_agreement
        return ", more than is short, so the SQNR decides" if short and not self.rejected else ""

    def advice(self, precision: str) -> str:
        """What to do about a rejection."""
        more = f"calibrate with more images (these judged {self.images}; 100 to 500 in all are usual), " * (
            self.images < MANY_IMAGES
        )
        return (
            f"{more}keep the worst blocks in floating point (`mobilevit quantize --search`), train in simulated "
            f"integers (`mobilevit train --qat`), or state a lower bar and why in [tool.mobilevit.parity.{precision}]"
        )


class QuantizationRecord(Strict, frozen=True, kw_only=True):
    """The recipe, the calibration images and the judgment."""

    recipe: QuantizationRecipe
    images: str  # their source
    data_free: bool  # synthesized from the network's own BatchNorm statistics
    calibrated_with: int
    images_sha256: str
    judgment: Judgment | None = None  # None for random weights, which have no task
    # By how much channels that share a scale were divided before rounding, by the path of the layer that reads them.
    smoothing: dict[str, tuple[float, ...]] = msgspec.field(default_factory=dict)
