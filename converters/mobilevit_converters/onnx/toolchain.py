"""What the extra `onnx` installs: torch exports with onnxscript, onnx reads and writes, onnxruntime runs."""

from __future__ import annotations

from functools import partial

from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.formats.toolchain import import_optional, installed

availability = partial(installed, extra="onnx")
import_from = partial(import_optional, extra="onnx")


def exporter_availability() -> Availability:
    """The version of onnx, which writes the files; torch's exporter needs onnxscript beside it."""
    return availability("onnx") if (exporter := availability("onnxscript")) else exporter
