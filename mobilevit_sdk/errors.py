"""Every error a user can meet: what went wrong, where, and what to do. The command line prints one line of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MobileViTError(Exception):
    """Base of the errors below; `exit_code` is the one that the command line ends with."""

    exit_code = 1

    def __str__(self) -> str:
        """The message on one line, whatever names of untrusted files it quotes."""
        return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in self.text)

    @property
    def text(self) -> str:
        """The message as it was raised."""
        return super().__str__()


class RequestError(MobileViTError):
    """The request or the input was wrong: a name, an option, a file."""

    exit_code = 2


class CheckpointError(RequestError):
    """A checkpoint is missing, truncated, of an unknown kind, unsafe, or does not fit its model."""


class ArtifactError(RequestError):
    """An artifact, its manifest or its reference vectors are missing or malformed."""


class ToolchainError(MobileViTError):
    """A converter's toolchain or a runtime is not installed, failed, or died."""

    exit_code = 3


class ConversionWarning(UserWarning):
    """A converter wrote a correct file in another way than usual; conversions keep the message in the manifest."""


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelled name: the nearest known names, or all of them when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
