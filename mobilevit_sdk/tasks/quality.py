"""How good a network's answers are, whatever they are: what training, pruning and reports need to know of it."""

from __future__ import annotations

from typing import Protocol


class Quality(Protocol):
    """A measurement on labeled images."""

    @property
    def images(self) -> int: ...

    @property
    def not_finite(self) -> int:
        """Images with NaN or infinity among their answers."""
        ...

    @property
    def shares(self) -> dict[str, float]:
        """By the names that they have in JSON, the one that decides first, each from 0 to 1."""
        ...

    def describe(self) -> str:
        """In a few words, such as "top-1 85.30%"."""
        ...


def deciding(quality: Quality) -> dict[str, float]:
    """The one share that decides, by its name."""
    name = next(iter(quality.shares))
    return {name: quality.shares[name]}
