"""Optional packages: found without an import, and imported where they are needed."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.formats.wheels import no_wheel


def installed(distribution: str, *, extra: str) -> Availability:
    """The version of an installed `distribution`; or how to get it with the SDK's `extra`, or why that cannot work."""
    try:
        return Availability(importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        hint = f"{distribution} is not installed: pip install 'mobilevit-sdk[{extra}]'"
        return Availability(None, no_wheel(distribution) or hint)


def import_optional(distribution: str, module: str, *, extra: str) -> Any:
    """The `module` of an optional `distribution`. Raises ToolchainError when it is not installed or does not import."""
    found = installed(distribution, extra=extra)
    if not found:
        raise ToolchainError(found.reason)
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library that is missing
        raise ToolchainError(f"{distribution} {found.version} does not import here: {error}") from error
