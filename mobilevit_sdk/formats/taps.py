"""Intermediate values of an artifact, from runtimes that expose them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from mobilevit_sdk.formats.runtime import Runtime


@dataclass(frozen=True)
class Tap:
    """A value within an artifact: the operator that computes it, under the file's own names, and its shape."""

    operator: str
    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TappedArtifact:
    """A loaded file that exposes every value it computes.

    `taps` are in the order of execution. `values` takes what a LoadedArtifact takes and returns the value of each
    tap, float32, with quantized values dequantized.
    """

    taps: tuple[Tap, ...]
    values: Callable[[np.ndarray], list[np.ndarray]]


@runtime_checkable
class TappedRuntime(Runtime, Protocol):
    """A runtime that exposes intermediate values."""

    def tap(self, path: Path, image_size: tuple[int, int] | None = None) -> TappedArtifact:
        """Load the file with all its values as outputs. Raises what `load` raises.

        `image_size`, height and width, says which entry of a file with several input sizes; no other file gets it.
        """
        ...
