"""Calibration: the ranges that 8 bits must cover, observed by running images through the float model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobilevit_converters.onnx.runtimes.session import open_session
from mobilevit_converters.onnx.toolchain import import_from
from mobilevit_sdk.formats.quantization import Quantization
from mobilevit_sdk.formats.ranges import RangeEstimator

Range = tuple[float, float]

IMAGE: Range = (0.0, 1.0)  # 8-bit pixels as they are


def find_ranges(model: Any, names: Sequence[str], quantization: Quantization) -> dict[str, Range]:
    """Low and high of the float values `names` of `model`, an `onnx.ModelProto`, over the images, one at a time."""
    helper = import_from("onnx", "onnx.helper")
    (image,) = (value.name for value in model.graph.input)
    computed = [name for name in names if name != image]
    exposed = type(model)()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in computed)
    session = open_session(Path("the model to calibrate"), exposed.SerializeToString(), threads=1)
    estimators = {name: RangeEstimator(quantization.recipe) for name in computed}
    for pixels in quantization.images:
        for name, values in zip(computed, session.run(computed, {image: pixels}), strict=True):
            estimators[name].observe(values)
    return {image: IMAGE} | {name: estimator.range() for name, estimator in estimators.items()}
