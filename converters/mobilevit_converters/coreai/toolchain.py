"""coreai-torch, which writes .aimodel assets, and coreai-core with Apple's runtime: whether they work here."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

from mobilevit_sdk.formats.toolchain import import_optional, installed

EXTRA = "coreai"
_TORCH, _CORE = "coreai-torch", "coreai-core"


availability = partial(installed, _TORCH, extra=EXTRA)
runtime_availability = partial(installed, _CORE, extra=EXTRA)  # which needs no torch


def import_coreai_torch() -> Any:
    """The coreai_torch module. Raises ToolchainError when it is not installed or does not import."""
    with quiet():
        return import_optional(_TORCH, "coreai_torch", extra=EXTRA)


def import_coreai(module: str) -> Any:
    """A module of coreai-core. Raises ToolchainError when it is not installed or does not import."""
    return import_optional(_CORE, module, extra=EXTRA)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress what coreai-torch and torch.export print and log."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
