"""What is done to a phone graph before any format turns it into integers: the same for all of them."""

from __future__ import annotations

from itertools import islice

from mobilevit_sdk.deployment import PhoneGraph
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.quantization.bias_correction import correct_biases
from mobilevit_sdk.quantization.smoothing import smooth

IMAGES = 64  # for means and maxima, which condition_weights sooner than the ends of a range


def prepare(graph: PhoneGraph, quantization: Quantization, precision: str) -> None:
    """Even out what shares a scale, then correct the means that rounding to 8 bits shifts; in place."""
    images = list(islice(quantization.images, IMAGES))
    smooth(graph, images)
    if quantization.recipe.bias_correction and precision.startswith("int8"):
        correct_biases(graph, quantization.recipe, images)
