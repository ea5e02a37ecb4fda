"""coremltools: whether it is here, and how to use it without its chatter."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType

from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.runtime import Availability


def availability() -> Availability:
    """The installed coremltools, found without importing it."""
    try:
        return Availability(importlib.metadata.version("coremltools"))
    except importlib.metadata.PackageNotFoundError:
        return Availability(None, "coremltools is not installed: pip install 'mobilevit-sdk[coreml]'")


def import_coremltools() -> ModuleType:
    """The coremltools module. Raises ToolchainError when it is not installed or does not import."""
    available = availability()
    if not available:
        raise ToolchainError(available.reason)
    try:
        with quiet():
            import coremltools
    except ImportError as error:
        raise ToolchainError(f"coremltools {available.version} does not import here: {error}") from error
    return coremltools


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow the progress bars, warnings and log lines that coremltools and torch.export write to standard error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
