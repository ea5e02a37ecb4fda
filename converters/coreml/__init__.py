"""CoreML: .mlpackage files (ML Program, iOS 16 and newer), and what runs them on a Mac and elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from converters.coreml.reference import HalfSumsRuntime, ReferenceRuntime
from converters.coreml.runtime import RUNTIMES
from converters.coreml.toolchain import availability
from mobilevit_sdk.converter import Converter, Inspection
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.runtime import Availability, Runtime
from mobilevit_sdk.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from mobilevit_sdk.quantization import Quantization


@dataclass(eq=False)
class CoreMLConverter:
    """Emits and reads .mlpackage files, in the form that suits every processor or that of the Neural Engine.

    See `mobilevit_sdk.converter.Converter`.
    """

    backend: str | None
    target: str
    backends: Mapping[str, Converter] = field(repr=False)
    format: str = "coreml"
    suffix: str = ".mlpackage"
    precisions: tuple[str, ...] = ("fp16", "fp32", "int8", "int8-weight", "int4-weight")
    nearest_precision: Mapping[str, str] = field(
        default_factory=lambda: {"int8-dynamic": "int8-weight, as Core ML finds no ranges at run time"}
    )
    runtimes: tuple[Runtime, ...] = (*RUNTIMES, ReferenceRuntime(), HalfSumsRuntime())

    def availability(self) -> Availability:
        return availability()

    def convert(
        self, graph: nn.Module, spec: ModelSpec, precision: str, path: Path, quantization: Quantization | None = None
    ) -> None:
        from converters.coreml.convert import convert

        convert(graph, spec, self.backend, precision, path, quantization)

    def inspect(self, path: Path) -> Inspection:
        from converters.coreml.inspect import inspect

        found = inspect(path)
        if found.backend is not None and found.backend not in self.backends:
            raise ArtifactError(f"{path} was made for the unknown backend {found.backend!r}")
        return found


_BACKENDS: dict[str, Converter] = {}
_BACKENDS["ane"] = CoreMLConverter("ane", "coreml-ane", _BACKENDS)
converter = CoreMLConverter(None, "coreml", _BACKENDS)
