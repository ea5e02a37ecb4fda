"""ExecuTorch: whether it is here, and the parts of its wheel that read its files."""

from __future__ import annotations

import importlib.metadata
import sys
from functools import partial
from pathlib import Path

from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.runtime import Availability
from mobilevit_sdk.toolchain import import_optional, installed

availability = partial(installed, "executorch", extra="executorch")
import_module = partial(import_optional, "executorch", extra="executorch")


def wheel_file(name: str) -> Path:
    """A file that ExecuTorch's wheel carries, by its path within the package. Raises ToolchainError."""
    available = availability()
    if not available:
        raise ToolchainError(available.reason)
    path = Path(str(importlib.metadata.distribution("executorch").locate_file(f"executorch/{name}")))
    if not path.is_file():
        raise ToolchainError(f"executorch {available.version} lacks {name}; install it again from its wheel")
    return path


def flatc() -> Path:
    """The flatbuffer compiler that ExecuTorch writes and reads its files with."""
    return wheel_file("data/bin/flatc.exe" if sys.platform == "win32" else "data/bin/flatc")


def coreml_availability() -> Availability:
    """Whether Core ML programs can be put into ExecuTorch's files and read out of them: that takes coremltools, too."""
    executorch, coremltools = availability(), installed("coremltools", extra="coreml")
    if not (executorch and coremltools):
        return coremltools if executorch else executorch
    return Availability(f"{executorch.version} with coremltools {coremltools.version}")
