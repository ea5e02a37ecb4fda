"""What the TFLite extra installs: litert-torch converts, ai-edge-litert reads and runs."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.runtime import Availability


def availability(distribution: str) -> Availability:
    """The installed `distribution`, found without importing it."""
    try:
        return Availability(importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return Availability(None, f"{distribution} is not installed: pip install 'mobilevit-sdk[tflite]'")


def import_from(distribution: str, module: str) -> Any:
    """The `module` of an optional `distribution`. Raises ToolchainError when it is not installed or does not import."""
    available = availability(distribution)
    if not available:
        raise ToolchainError(available.reason)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ToolchainError(f"{distribution} {available.version} does not import here: {error}") from error
