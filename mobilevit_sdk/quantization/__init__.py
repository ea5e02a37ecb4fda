"""Fewer bits: one recipe and one calibration for every format; the formats quantize, each with its own toolchain."""

from mobilevit_sdk.data.calibration import CalibrationImages, split_images
from mobilevit_sdk.formats.quantization import PRECISIONS, QUANTIZED, Quantization, QuantizationRecipe, read_recipe
from mobilevit_sdk.formats.ranges import RangeEstimator

__all__ = [
    "PRECISIONS",
    "QUANTIZED",
    "CalibrationImages",
    "Quantization",
    "QuantizationRecipe",
    "RangeEstimator",
    "read_recipe",
    "split_images",
]
