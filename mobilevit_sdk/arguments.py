"""What callers may pass where several values are meant: one of them, several, or none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from mobilevit_sdk.errors import RequestError

T = TypeVar("T")


def several(given: T | Iterable[T] | None) -> list[T]:
    """One value or several, as a list; None is none of them. A text is one value, not its letters."""
    if given is None:
        return []
    if isinstance(given, str) or not isinstance(given, Iterable):
        return [given]
    return list(given)


def names(given: str | Iterable[str] | None) -> list[str]:
    """Names, each once and in their order: "tflite", "tflite,coreml" and ["tflite", "coreml"] are the same to callers.

    Raises RequestError for anything but text.
    """
    found: dict[str, None] = {}
    texts: list[str] = several(given)
    for each in texts:
        if not isinstance(each, str):
            raise RequestError(f"{each!r} is not a name: pass text, such as 'tflite', or a list of it")
        found |= dict.fromkeys(name for part in each.split(",") if (name := part.strip()))
    return list(found)
