"""ExecuTorch: .pte files lowered to XNNPACK, for Android and iOS alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from converters.executorch.runtime import ExecuTorchRuntime
from converters.executorch.toolchain import availability
from mobilevit_sdk.runtime import Availability, Runtime
from mobilevit_sdk.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from mobilevit_sdk.converter import Inspection


class ExecuTorchConverter:
    """Emits and reads .pte files. See `mobilevit_sdk.converter.Converter`."""

    format = "executorch"
    suffix = ".pte"
    precisions = ("fp32",)
    target = "xnnpack"
    runtimes: tuple[Runtime, ...] = (ExecuTorchRuntime(),)

    def availability(self) -> Availability:
        return availability()

    def convert(self, graph: nn.Module, spec: ModelSpec, precision: str, path: Path) -> None:
        from converters.executorch.convert import convert

        convert(graph, spec, path)

    def inspect(self, path: Path) -> Inspection:
        from converters.executorch.inspect import inspect

        return inspect(path)


converter = ExecuTorchConverter()
