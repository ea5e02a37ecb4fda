"""coreai-torch, which writes .aimodel assets, and coreai-core with Apple's runtime: whether they work here."""

from __future__ import annotations

import contextlib
import io
import logging
import platform
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from mobilevit_sdk.formats.runtime import Availability
from mobilevit_sdk.formats.toolchain import import_optional, installed

EXTRA = "coreai"
_TORCH, _CORE = "coreai-torch", "coreai-core"


def availability() -> Availability:
    """Of the converter."""
    return _availability(_TORCH)


def runtime_availability() -> Availability:
    """Of the runtime, which needs no torch."""
    return _availability(_CORE)


def import_coreai_torch() -> Any:
    """The coreai_torch module. Raises ToolchainError when it is not installed or does not import."""
    with quiet():
        return import_optional(_TORCH, "coreai_torch", extra=EXTRA)


def import_coreai(module: str) -> Any:
    """A module of coreai-core. Raises ToolchainError when it is not installed or does not import."""
    return import_optional(_CORE, module, extra=EXTRA)


def _availability(distribution: str) -> Availability:
    found = installed(distribution, extra=EXTRA)
    missing = None if found else _no_wheel()
    return Availability(None, f"{distribution} has no wheel for {missing}") if missing else found


def _no_wheel() -> str | None:
    """Why no wheel of coreai-core 1.0.0b3 fits this machine; None where one does."""
    python = platform.python_version_tuple()[:2]
    if _numbers(python) < (3, 11):
        return f"Python {'.'.join(python)}: it needs 3.11 or newer"
    system, machine = platform.system(), platform.machine()
    if (system, machine) == ("Linux", "x86_64"):
        library, version = platform.libc_ver()
        if library != "glibc":
            return "a Linux without glibc"
        return f"glibc {version}: it needs 2.34 or newer" if _numbers(version.split(".")) < (2, 34) else None
    if (system, machine) == ("Darwin", "arm64"):
        version = platform.mac_ver()[0]
        return f"macOS {version}: it needs macOS 26 or newer" if _numbers(version.split(".")) < (26,) else None
    return f"{system} on {machine}: it runs on Linux x86-64 and on macOS 26 or newer"


def _numbers(parts: Sequence[str]) -> tuple[int, ...]:
    return tuple(int(part) for part in parts if part.isdigit())


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
