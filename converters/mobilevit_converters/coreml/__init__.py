"""Core ML: .mlpackage files (ML Program, iOS 16 and newer), and the runtimes for them, on a Mac and elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevit_converters.coreml.runtimes.coreml import RUNTIMES
from mobilevit_converters.coreml.runtimes.reference import FP16AccumulationRuntime, ReferenceRuntime
from mobilevit_converters.coreml.toolchain import availability
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.converter import Converter, Inspection
from mobilevit_sdk.formats.runtime import Availability, Runtime
from mobilevit_sdk.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from mobilevit_sdk.formats.quantization import Quantization


@dataclass(eq=False)
class CoreMLConverter:
    """Writes and reads .mlpackage files, in a form for every processor or in that of the Neural Engine.

    See `formats.converter.Converter`.
    """

    backend: str | None
    target: str
    backends: Mapping[str, Converter] = field(repr=False)
    format: str = "coreml"
    suffix: str = ".mlpackage"
    precisions: tuple[str, ...] = ("fp16", "fp32", "int8", "int8-weight", "int4-weight")
    nearest_precision: Mapping[str, str] = field(
        default_factory=lambda: {"int8-dynamic": "int8-weight, as Core ML does not find ranges at run time"}
    )
    runtimes: tuple[Runtime, ...] = (*RUNTIMES, ReferenceRuntime(), FP16AccumulationRuntime())

    def availability(self) -> Availability:
        return availability()

    def import_toolchain(self) -> None:
        from mobilevit_converters.coreml.toolchain import import_coremltools

        import_coremltools()

    def convert(
        self, graph: nn.Module, spec: ModelSpec, precision: str, path: Path, quantization: Quantization | None = None
    ) -> None:
        from mobilevit_converters.coreml.convert import convert

        convert([graph], spec, self.backend, precision, path, quantization)

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
        from mobilevit_converters.coreml.convert import convert

        convert(graphs, spec, self.backend, precision, path, quantization)

    def inspect(self, path: Path) -> Inspection:
        from mobilevit_converters.coreml.inspect import inspect

        found = inspect(path)
        if found.backend is not None and found.backend not in self.backends:
            raise ArtifactError(f"{path} was made for the unknown backend {found.backend!r}")
        return found


_BACKENDS: dict[str, Converter] = {}
_BACKENDS["ane"] = CoreMLConverter("ane", "coreml-ane", _BACKENDS)
converter = CoreMLConverter(None, "coreml", _BACKENDS)
