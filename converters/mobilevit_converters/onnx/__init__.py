"""ONNX: .onnx files written by torch's exporter, for onnxruntime, browsers, Windows and ncnn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevit_converters.onnx.runtimes.host import ONNXRuntime
from mobilevit_converters.onnx.toolchain import exporter_availability
from mobilevit_sdk.formats.runtime import Availability, Runtime
from mobilevit_sdk.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from mobilevit_sdk.formats.converter import Converter, Inspection
    from mobilevit_sdk.formats.graph_view import DrawnGraph
    from mobilevit_sdk.formats.quantization import Quantization
    from mobilevit_sdk.formats.runtime import Size


class ONNXConverter:
    """Writes and reads .onnx files. See `formats.converter.Converter`."""

    format = "onnx"
    backend = None
    backends: Mapping[str, Converter] = {}
    suffix = ".onnx"
    precisions = ("fp32", "fp16", "int8", "int8-weight")
    nearest_precision: Mapping[str, str] = {"int8-dynamic": "int8", "int4-weight": "int8-weight"}
    target = "onnx"
    runtimes: tuple[Runtime, ...] = (ONNXRuntime(),)

    def availability(self) -> Availability:
        return exporter_availability()

    def import_toolchain(self) -> None:
        from mobilevit_converters.onnx.toolchain import import_from

        import_from("onnxscript", "onnxscript")

    def convert(
        self, graph: nn.Module, spec: ModelSpec, precision: str, path: Path, quantization: Quantization | None = None
    ) -> None:
        from mobilevit_converters.onnx.convert import convert

        convert(graph, spec, precision, path, quantization)

    def inspect(self, path: Path) -> Inspection:
        from mobilevit_converters.onnx.inspect import inspect

        return inspect(path)

    def drawn_graph(self, path: Path, image_size: Size = None) -> DrawnGraph:
        """See `formats.graph_view.DrawnByModelExplorer`."""
        from mobilevit_converters.onnx.file.drawn_graph import drawn_graph

        return drawn_graph(path)


converter = ONNXConverter()
