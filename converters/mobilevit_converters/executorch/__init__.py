"""ExecuTorch: .pte files lowered to XNNPACK, to Core ML or Core AI, for iOS, or to Vulkan, for Android."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevit_converters.executorch.runtimes.arm64 import ExecuTorchARM64Runtime
from mobilevit_converters.executorch.runtimes.coreai import CoreAIProgramRuntime
from mobilevit_converters.executorch.runtimes.coreml import CoreMLReferenceRuntime
from mobilevit_converters.executorch.runtimes.delegates import CoreAIDelegateRuntime, CoreMLDelegateRuntime
from mobilevit_converters.executorch.runtimes.host import ExecuTorchRuntime
from mobilevit_converters.executorch.runtimes.vulkan import VulkanDelegateRuntime
from mobilevit_converters.executorch.runtimes.vulkan_reference import VulkanReferenceRuntime, VulkanTruncationRuntime
from mobilevit_converters.executorch.toolchain import availability, coreai_availability, coreml_availability
from mobilevit_sdk.formats.runtime import Availability, Runtime
from mobilevit_sdk.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from mobilevit_sdk.formats.converter import Converter, Inspection
    from mobilevit_sdk.formats.extras import ExtraKind
    from mobilevit_sdk.formats.quantization import Quantization


@dataclass(eq=False)
class ExecuTorchConverter:
    """Writes .pte files for one backend, and reads those of any. See `formats.converter.Converter`."""

    backend: str | None
    target: str
    precisions: tuple[str, ...]
    runtimes: tuple[Runtime, ...]
    backends: Mapping[str, Converter] = field(repr=False)
    format: str = "executorch"
    suffix: str = ".pte"
    nearest_precision: Mapping[str, str] = field(default_factory=dict)

    def availability(self) -> Availability:
        return {"coreml": coreml_availability, "coreai": coreai_availability}.get(self.backend or "", availability)()

    def import_toolchain(self) -> None:
        from mobilevit_converters.executorch.toolchain import EXPORTER, import_module

        import_module(EXPORTER)

    def convert(
        self, graph: nn.Module, spec: ModelSpec, precision: str, path: Path, quantization: Quantization | None = None
    ) -> None:
        from mobilevit_converters.executorch.convert import convert

        convert([graph], spec, self.backend, precision, path, quantization)

    def refuses_sizes(self, precision: str) -> str | None:
        """See `formats.converter.HoldsSizes`."""
        from mobilevit_sdk.formats.quantization import uncalibrated_sizes

        if self.backend != "xnnpack":
            return "its files hold one; use the backend xnnpack, or convert each size into a folder of its own"
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
        from mobilevit_converters.executorch.convert import convert

        convert(graphs, spec, self.backend, precision, path, quantization)

    def refuses_extra(self, kind: ExtraKind, spec: ModelSpec) -> str | None:
        """See `formats.extras.WritesExtras`."""
        if self.backend != "xnnpack":
            return f"of the backend xnnpack alone: Python's ExecuTorch does not run files for {self.backend}"
        if kind == "etrecord" and spec.image_sizes:
            return "ExecuTorch's Inspector reads one of a single method: convert each image size into its own folder"
        return None

    def convert_recorded(
        self,
        graph: nn.Module,
        spec: ModelSpec,
        precision: str,
        path: Path,
        record: Path,
        quantization: Quantization | None = None,
    ) -> None:
        """See `formats.extras.WritesExtras`."""
        from mobilevit_converters.executorch.convert import convert

        convert([graph], spec, self.backend, precision, path, quantization, record)

    def bundle(
        self,
        path: Path,
        precision: str,
        images: Sequence[np.ndarray],
        answers: Sequence[np.ndarray],
        atol: float,
        bundled: Path,
    ) -> str | None:
        """See `formats.extras.WritesExtras`."""
        from mobilevit_converters.executorch.bundle import bundle

        return bundle(path, precision, images, answers, atol, bundled)

    def inspect(self, path: Path) -> Inspection:
        from mobilevit_converters.executorch.inspect import inspect

        return inspect(path)

    def time_layers(
        self, layers: Sequence[tuple[nn.Module, tuple[int, ...]]], report: Callable[[int, int], None]
    ) -> list[float]:
        """See `formats.converter.TimesLayers`; always in XNNPACK, whatever the backend."""
        from mobilevit_converters.executorch.layer_times import time_layers

        return time_layers(layers, report)


_BACKENDS: dict[str, Converter] = {}
_BACKENDS["xnnpack"] = ExecuTorchConverter(
    "xnnpack",
    "xnnpack",
    ("fp32", "fp16", "int8", "int8-dynamic", "int4-weight"),
    (ExecuTorchRuntime(), ExecuTorchARM64Runtime()),
    _BACKENDS,
    # XNNPACK has no convolution of float values with int8 weights.
    nearest_precision={"int8-weight": "int8-dynamic"},
)
_BACKENDS["coreml"] = ExecuTorchConverter(
    "coreml",
    "coreml",
    ("fp16", "fp32"),
    (CoreMLDelegateRuntime(), CoreMLReferenceRuntime()),
    _BACKENDS,
    nearest_precision=dict.fromkeys(("int8", "int8-dynamic", "int8-weight", "int4-weight"), "fp16"),
)
_BACKENDS["coreai"] = ExecuTorchConverter(
    "coreai",
    "coreai",
    ("fp16", "fp32"),
    (CoreAIDelegateRuntime(), CoreAIProgramRuntime()),
    _BACKENDS,
    nearest_precision=dict.fromkeys(("int8", "int8-dynamic", "int8-weight", "int4-weight"), "fp16"),
)
_BACKENDS["vulkan"] = ExecuTorchConverter(
    "vulkan",
    "vulkan",
    ("fp32", "fp16"),  # a driver that rounds to float16 toward zero, as Vulkan allows, costs fp16 its threshold
    (VulkanDelegateRuntime(), VulkanReferenceRuntime(), VulkanTruncationRuntime()),
    _BACKENDS,
    nearest_precision=dict.fromkeys(("int8", "int8-dynamic", "int8-weight", "int4-weight"), "fp16"),
)
converter = _BACKENDS["xnnpack"]
