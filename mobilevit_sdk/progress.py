"""How long work tells where it stands."""

from __future__ import annotations

from collections.abc import Callable

# Hears what is being done, in two or three words, how much of it is done, and of how much.
Report = Callable[[str, int, int], None]
