"""Text made fit for a terminal: content of untrusted files, lists, counts."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized

_ESCAPES = str.maketrans({c: f"\\{c}" for c in "\\`*_[]#~"} | {c: f"&#{ord(c)};" for c in "<>&|@"})


def one_line(text: str, limit: int = 200) -> str:
    """`text` on one line, without control characters, not longer than `limit`."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:limit]


def printable(text: str) -> str:
    """`text` with a replacement character for each that a terminal would act on instead of showing it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def markdown(text: str | None) -> str:
    """Text on one line, with everything escaped that Markdown or HTML would interpret; None is empty."""
    return one_line(text or "", 2000).translate(_ESCAPES)


def shorten(names: Sequence[str], shown: int = 3) -> str:
    """A few of the names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(one_line(name) for name in names[:shown]) + (f" and {more} more" if more > 0 else "")


def percent(share: float | None) -> str:
    """A share of 1 in percent, rounded down to a tenth: `99.9%` of 0.9996, and `100%` of nothing less than all.

    None, where there is no such share, is `-`.
    """
    if share is None:
        return "-"
    return f"{math.floor(round(1000 * share, 9)) / 10:g}%"


def of_all(share: float, total: int, noun: str) -> str:
    """A share of so many things as a number of them: `2,499 of 2,500 images`."""
    return f"{round(share * total):,} of {total:,} {noun}"


def count(things: Sized | int, noun: str) -> str:
    """A number with its noun in singular or plural: `1 pair`, `2 pairs`."""
    number = things if isinstance(things, int) else len(things)
    return f"{number} {noun}{'' if number == 1 else 's'}"
