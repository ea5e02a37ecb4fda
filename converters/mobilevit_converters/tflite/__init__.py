"""TFLite: .tflite files written by litert-torch (formerly ai-edge-torch), run by LiteRT (formerly TensorFlow Lite)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevit_converters.tflite.runtimes.arm64 import LiteRTARM64Runtime
from mobilevit_converters.tflite.runtimes.gpu import LiteRTGPURuntime
from mobilevit_converters.tflite.runtimes.litert import LiteRTBuiltinRuntime, LiteRTRuntime
from mobilevit_converters.tflite.runtimes.tflite_runtime import TFLiteRuntime
from mobilevit_converters.tflite.runtimes.web import LiteRTWebGPURuntime, LiteRTWebRuntime
from mobilevit_converters.tflite.toolchain import availability
from mobilevit_sdk.formats.runtime import Availability, Runtime
from mobilevit_sdk.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from mobilevit_sdk.formats.converter import Converter, Inspection
    from mobilevit_sdk.formats.graph_view import DrawnGraph
    from mobilevit_sdk.formats.quantization import Quantization
    from mobilevit_sdk.formats.runtime import Size


class TFLiteConverter:
    """Writes and reads .tflite files. See `formats.converter.Converter`."""

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
        LiteRTWebRuntime(),
        LiteRTWebGPURuntime(),
    )

    def availability(self) -> Availability:
        return availability("litert-torch")

    def import_toolchain(self) -> None:
        from mobilevit_converters.tflite.toolchain import import_from

        import_from("litert-torch", "litert_torch")

    def convert(
        self, graph: nn.Module, spec: ModelSpec, precision: str, path: Path, quantization: Quantization | None = None
    ) -> None:
        from mobilevit_converters.tflite.convert import convert

        convert([graph], spec, precision, path, quantization)

    def refuses_sizes(self, precision: str) -> str | None:
        """See `formats.converter.HoldsSizes`."""
        from mobilevit_sdk.formats.quantization import uncalibrated_sizes

        return uncalibrated_sizes(precision)

    def convert_sizes(
        self,
        graphs: Sequence[nn.Module],
        spec: ModelSpec,
        precision: str,
        path: Path,
        quantization: Quantization | None = None,
    ) -> None:
        """See `formats.converter.HoldsSizes`."""
        from mobilevit_converters.tflite.convert import convert

        convert(graphs, spec, precision, path, quantization)

    def inspect(self, path: Path) -> Inspection:
        from mobilevit_converters.tflite.inspect import inspect

        return inspect(path)

    def drawn_graph(self, path: Path, image_size: Size = None) -> DrawnGraph:
        """See `formats.graph_view.DrawnByModelExplorer`."""
        from mobilevit_converters.tflite.file.drawn_graph import drawn_graph

        return drawn_graph(path, image_size)


converter = TFLiteConverter()
