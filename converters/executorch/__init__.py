"""ExecuTorch: .pte files lowered to XNNPACK, for Android and iOS alike, or to CoreML, for iOS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from converters.executorch.arm64_runtime import ExecuTorchARM64Runtime
from converters.executorch.coreml_runtime import CoreMLDelegateRuntime, CoreMLReferenceRuntime
from converters.executorch.runtime import ExecuTorchRuntime
from converters.executorch.toolchain import availability, coreml_availability
from mobilevit_sdk.runtime import Availability, Runtime
from mobilevit_sdk.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from mobilevit_sdk.converter import Converter, Inspection
    from mobilevit_sdk.quantization import Quantization


@dataclass(eq=False)
class ExecuTorchConverter:
    """Emits and reads .pte files, the first for one backend. See `mobilevit_sdk.converter.Converter`."""

    backend: str | None
    target: str
    precisions: tuple[str, ...]
    runtimes: tuple[Runtime, ...]
    backends: Mapping[str, Converter] = field(repr=False)
    format: str = "executorch"
    suffix: str = ".pte"
    nearest_precision: Mapping[str, str] = field(default_factory=dict)

    def availability(self) -> Availability:
        return coreml_availability() if self.backend == "coreml" else availability()

    def convert(
        self, graph: nn.Module, spec: ModelSpec, precision: str, path: Path, quantization: Quantization | None = None
    ) -> None:
        from converters.executorch.convert import convert

        convert(graph, spec, self.backend, precision, path, quantization)

    def inspect(self, path: Path) -> Inspection:
        from converters.executorch.inspect import inspect

        return inspect(path)

    def time_layers(
        self, layers: Sequence[tuple[nn.Module, tuple[int, ...]]], report: Callable[[int, int], None]
    ) -> list[float]:
        """See `mobilevit_sdk.converter.TimesLayers`; in XNNPACK, whatever the backend."""
        from converters.executorch.layer_times import time_layers

        return time_layers(layers, report)


_BACKENDS: dict[str, Converter] = {}
_BACKENDS["xnnpack"] = ExecuTorchConverter(
    "xnnpack",
    "xnnpack",
    ("fp32", "int8", "int8-dynamic", "int4-weight"),
    (ExecuTorchRuntime(), ExecuTorchARM64Runtime()),
    _BACKENDS,
    nearest_precision={"int8-weight": "int8-dynamic"},  # XNNPACK has no convolution of float values with int8 weights
)
_BACKENDS["coreml"] = ExecuTorchConverter(
    "coreml",
    "coreml",
    ("fp16", "fp32"),
    (CoreMLDelegateRuntime(), CoreMLReferenceRuntime()),
    _BACKENDS,
    nearest_precision=dict.fromkeys(("int8", "int8-dynamic", "int8-weight", "int4-weight"), "fp16"),
)
converter = _BACKENDS["xnnpack"]
