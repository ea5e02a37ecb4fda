"""Core AI: .aimodel assets for iOS 27 and macOS 27, and Apple's runtime for them, on Linux too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevit_converters.coreai.runtimes.coreai import CoreAIRuntime
from mobilevit_converters.coreai.toolchain import availability
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.converter import Converter, Inspection
from mobilevit_sdk.formats.runtime import Availability, Runtime
from mobilevit_sdk.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from mobilevit_sdk.formats.quantization import Quantization


@dataclass(eq=False)
class CoreAIConverter:
    """Writes and reads .aimodel assets, in a form for every processor or in that of the Neural Engine.

    See `formats.converter.Converter`.
    """

    backend: str | None
    target: str
    backends: Mapping[str, Converter] = field(repr=False)
    format: str = "coreai"
    suffix: str = ".aimodel"
    precisions: tuple[str, ...] = ("fp16", "fp32", "int8", "int8-weight", "int4-weight")
    nearest_precision: Mapping[str, str] = field(
        default_factory=lambda: {"int8-dynamic": "int8-weight, as Core AI does not find ranges at run time"}
    )
    runtimes: tuple[Runtime, ...] = (CoreAIRuntime(),)

    def availability(self) -> Availability:
        return availability()

    def import_toolchain(self) -> None:
        from mobilevit_converters.coreai.toolchain import import_coreai_torch

        import_coreai_torch()

    def convert(
        self, graph: nn.Module, spec: ModelSpec, precision: str, path: Path, quantization: Quantization | None = None
    ) -> None:
        from mobilevit_converters.coreai.convert import convert

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
        from mobilevit_converters.coreai.convert import convert

        convert(graphs, spec, self.backend, precision, path, quantization)

    def inspect(self, path: Path) -> Inspection:
        from mobilevit_converters.coreai.inspect import inspect

        found = inspect(path)
        if found.backend is not None and found.backend not in self.backends:
            raise ArtifactError(f"{path} was made for the unknown backend {found.backend!r}")
        return found


_BACKENDS: dict[str, Converter] = {}
_BACKENDS["ane"] = CoreAIConverter("ane", "coreai-ane", _BACKENDS)
converter = CoreAIConverter(None, "coreai", _BACKENDS)
