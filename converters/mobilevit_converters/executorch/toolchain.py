"""ExecuTorch: whether it is installed, and the files of its wheel that are needed to read .pte files."""

from __future__ import annotations

import importlib.metadata
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from mobilevit_converters.coreai import toolchain as coreai_toolchain
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.formats.toolchain import import_optional, installed

availability = partial(installed, "executorch", extra="executorch")
import_module = partial(import_optional, "executorch", extra="executorch")
EXPORTER = "executorch.exir"
NO_RUNTIME = "writes Core AI delegates and has no runtime for them yet"  # of 1.5


def import_runtime(module: str) -> Any:
    """A module of ExecuTorch's runtime, without the exporter. Raises ToolchainError when it is not installed.

    All that the runtime uses of `executorch.exir` is a class of warnings, and importing that package takes 3 of 4
    seconds. Where it is not imported yet, an empty package stands in its place during the import.
    """
    if EXPORTER in sys.modules or not availability():
        return import_module(module)
    bare = ModuleType(EXPORTER)
    bare.__path__ = [str(wheel_file("exir/_warnings.py").parent)]
    sys.modules[EXPORTER] = bare
    try:
        return import_module(module)
    finally:
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{EXPORTER}.")]:
            del sys.modules[name]


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
    """The FlatBuffers compiler, with which ExecuTorch writes and reads its files."""
    return wheel_file("data/bin/flatc.exe" if sys.platform == "win32" else "data/bin/flatc")


def coreml_availability() -> Availability:
    """Whether Core ML programs can be written into .pte files and read back, which also takes coremltools."""
    executorch, coremltools = availability(), installed("coremltools", extra="coreml")
    if not (executorch and coremltools):
        return coremltools if executorch else executorch
    return Availability(f"{executorch.version} with coremltools {coremltools.version}")


def coreai_availability() -> Availability:
    """Whether Core AI programs can be written into .pte files, which also takes coreai-torch."""
    executorch, coreai = availability(), coreai_toolchain.availability()
    if not (executorch and coreai):
        return coreai if executorch else executorch
    return Availability(f"{executorch.version} with coreai-torch {coreai.version}")
