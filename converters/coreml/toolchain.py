"""coremltools: whether it is here, and how to use it without its chatter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

from mobilevit_sdk.toolchain import import_optional, installed

availability = partial(installed, "coremltools", extra="coreml")


def import_coremltools() -> Any:
    """The coremltools module. Raises ToolchainError when it is not installed or does not import."""
    with quiet():
        return import_optional("coremltools", "coremltools", extra="coreml")


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
