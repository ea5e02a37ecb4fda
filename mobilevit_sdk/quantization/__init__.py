"""Fewer bits: one recipe and one calibration for every format; the formats quantise, each with its own toolchain."""

from mobilevit_sdk.quantization.calibration import CalibrationImages, split_images
from mobilevit_sdk.quantization.ranges import RangeEstimator
from mobilevit_sdk.quantization.recipe import (
    PRECISIONS,
    QUANTIZED,
    Quantization,
    QuantizationRecipe,
    read_recipe,
)

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
