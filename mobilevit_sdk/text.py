"""Text out of files of strangers, made fit for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def one_line(text: str, limit: int = 200) -> str:
    """`text` on one line, without control characters, not longer than `limit`."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:limit]


def shorten(names: Sequence[str], shown: int = 3) -> str:
    """A few names and how many more there are."""
    more = len(names) - shown
    return ", ".join(one_line(name) for name in names[:shown]) + (f" and {more} more" if more > 0 else "")
