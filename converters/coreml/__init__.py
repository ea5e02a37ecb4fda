"""CoreML: .mlpackage files (ML Program, iOS 16 and newer), and what runs them on a Mac and elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from converters.coreml.reference import ReferenceRuntime
from converters.coreml.runtime import CoreMLRuntime
from converters.coreml.toolchain import availability
from mobilevit_sdk.converter import Converter, Inspection
from mobilevit_sdk.runtime import Availability, Runtime
from mobilevit_sdk.spec import ModelSpec


class CoreMLConverter:
    """Emits and reads .mlpackage files. See `mobilevit_sdk.converter.Converter`."""

    format = "coreml"
    backend = None
    backends: Mapping[str, Converter] = {}
    suffix = ".mlpackage"
    precisions = ("fp16", "fp32")
    target = "coreml"
    runtimes: tuple[Runtime, ...] = (CoreMLRuntime(), ReferenceRuntime())

    def availability(self) -> Availability:
        return availability()

    def convert(self, graph: nn.Module, spec: ModelSpec, precision: str, path: Path) -> None:
        from converters.coreml.convert import convert

        convert(graph, spec, precision, path)

    def inspect(self, path: Path) -> Inspection:
        from converters.coreml.inspect import inspect

        return inspect(path)


converter = CoreMLConverter()
