"""coremltools: whether it is installed, and how to use it without its log output."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

from mobilevit_sdk.formats.toolchain import import_optional, installed

availability = partial(installed, "coremltools", extra="coreml")

# Frontends that are not used here. coremltools imports them wherever they are installed: 7 of its 9 seconds.
_FRONTENDS = ("executorch", "sklearn", "tensorflow", "torchao", "transformers", "xgboost")


def import_coremltools() -> Any:
    """The coremltools module. Raises ToolchainError when it is not installed or does not import."""
    with quiet(), _hidden(_FRONTENDS):
        return import_optional("coremltools", "coremltools", extra="coreml")


@contextlib.contextmanager
def _hidden(packages: tuple[str, ...]) -> Iterator[None]:
    """Make imports of `packages` within the block fail, except for those that this process has already imported."""
    absent = [package for package in packages if package not in sys.modules]
    for package in absent:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for package in absent:
            del sys.modules[package]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the progress bars, warnings and log lines that coremltools and torch.export write to standard error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
