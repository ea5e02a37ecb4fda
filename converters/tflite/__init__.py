"""TFLite: .tflite files emitted by litert-torch (once ai-edge-torch), run by LiteRT (once TensorFlow Lite)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from converters.tflite.arm64_runtime import LiteRTARM64Runtime
from converters.tflite.gpu_runtime import LiteRTGPURuntime
from converters.tflite.legacy_runtime import TFLiteRuntime
from converters.tflite.runtime import LiteRTBuiltinRuntime, LiteRTRuntime
from converters.tflite.toolchain import availability
from mobilevit_sdk.runtime import Availability, Runtime
from mobilevit_sdk.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from mobilevit_sdk.converter import Converter, Inspection
    from mobilevit_sdk.quantization import Quantization


class TFLiteConverter:
    """Emits and reads .tflite files. See `mobilevit_sdk.converter.Converter`."""

    format = "tflite"
    backend = None
    backends: Mapping[str, Converter] = {}
    suffix = ".tflite"
    precisions = ("fp32", "fp16", "int8", "int8-dynamic", "int8-weight", "int4-weight")
    nearest_precision: Mapping[str, str] = {}
    target = "litert-cpu"
    runtimes: tuple[Runtime, ...] = (
        LiteRTRuntime(),
        LiteRTBuiltinRuntime(),
        LiteRTGPURuntime(),
        TFLiteRuntime(),
        LiteRTARM64Runtime(),
    )

    def availability(self) -> Availability:
        return availability("litert-torch")

    def convert(
        self, graph: nn.Module, spec: ModelSpec, precision: str, path: Path, quantization: Quantization | None = None
    ) -> None:
        from converters.tflite.convert import convert

        convert(graph, spec, precision, path, quantization)

    def inspect(self, path: Path) -> Inspection:
        from converters.tflite.inspect import inspect

        return inspect(path)


converter = TFLiteConverter()
