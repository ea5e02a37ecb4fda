"""ExecuTorch: whether it is here, and the parts of its wheel that read its files."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.runtime import Availability


def availability() -> Availability:
    """The installed ExecuTorch, found without importing it."""
    try:
        return Availability(importlib.metadata.version("executorch"))
    except importlib.metadata.PackageNotFoundError:
        return Availability(None, "executorch is not installed: pip install 'mobilevit-sdk[executorch]'")


def import_module(name: str) -> Any:
    """A module of ExecuTorch. Raises ToolchainError when it is not installed or does not import."""
    available = availability()
    if not available:
        raise ToolchainError(available.reason)
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise ToolchainError(f"executorch {available.version} does not import here: {error}") from error


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
