"""Every error a user can meet: what went wrong, where, and what to do. The command line prints one line of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MobileViTError(Exception):
    """Base of the errors below; `exit_code` is the one that the command line ends with."""

    exit_code = 1


class RequestError(MobileViTError):
    """The request or the input was wrong: a name, an option, a file."""

    exit_code = 2


class CheckpointError(RequestError):
    """A checkpoint is missing, truncated, foreign, unsafe, or does not fit its model."""


class ArtifactError(RequestError):
    """An artifact, its manifest or its reference vectors are missing or malformed."""


class ToolchainError(MobileViTError):
    """A converter's toolchain or a runtime is not installed, failed, or died."""

    exit_code = 3


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelled name: the nearest known names, or all of them when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
