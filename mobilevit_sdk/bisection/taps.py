"""All that lies between an artifact's input and its answer, from a runtime that exposes intermediate values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.formats.runtime_ref import RuntimeRef
from mobilevit_sdk.formats.taps import Tap
from mobilevit_sdk.processes.child import emit, run_in_child


def read_taps(
    ref: RuntimeRef, cases: Sequence[Case], image_size: tuple[int, int] | None = None
) -> tuple[tuple[Tap, ...], list[list[np.ndarray]]]:
    """The taps of a file and their values in each case, computed in a child process.

    Raises ArtifactError for a file that does not load, and ToolchainError when the runtime fails.
    """
    values: list[list[np.ndarray]] = []
    taps = run_in_child(emit_taps, ref, tuple(cases), image_size, on_event=values.append, threads=1)
    return taps, values


def emit_taps(ref: RuntimeRef, cases: Sequence[Case], image_size: tuple[int, int] | None = None) -> tuple[Tap, ...]:
    """In a child process: emit the values of each case, and return the taps."""
    taps, values = tapped_values(ref, cases, image_size)
    for found in values:
        emit(found)
    return taps


def tapped_values(
    ref: RuntimeRef, cases: Sequence[Case], image_size: tuple[int, int] | None = None
) -> tuple[tuple[Tap, ...], Iterator[list[np.ndarray]]]:
    """In this process: the taps of a file, and their values in one case after the other.

    `image_size` is that of the cases, for a file with several input sizes.
    """
    tapped = ref.tap(image_size)
    return tapped.taps, (tapped.values(case.as_passed()) for case in cases)
