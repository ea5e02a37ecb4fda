"""What lies between an artifact's input and its answer: a runtime that hands out every value on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.formats.taps import Tap, TappedRuntime
from mobilevit_sdk.processes.child import emit, run_in_child


def read_taps(
    format_name: str,
    backend: str | None,
    runtime: str,
    path: Path,
    cases: Sequence[Case],
) -> tuple[tuple[Tap, ...], list[list[np.ndarray]]]:
    """The taps of a file and their values in each case, computed in a child process.

    Raises ArtifactError for a file that is none or does not load, and ToolchainError when the runtime fails.
    """
    values: list[list[np.ndarray]] = []
    taps = run_in_child(emit_taps, format_name, backend, runtime, path, tuple(cases), on_event=values.append, threads=1)
    return taps, values


def emit_taps(
    format_name: str, backend: str | None, runtime_name: str, path: Path, cases: Sequence[Case]
) -> tuple[Tap, ...]:
    """In a child process: emit the values of each case, and return the taps."""
    taps, values = tapped_values(format_name, backend, runtime_name, path, cases)
    for found in values:
        emit(found)
    return taps


def tapped_values(
    format_name: str, backend: str | None, runtime_name: str, path: Path, cases: Sequence[Case]
) -> tuple[tuple[Tap, ...], Iterator[list[np.ndarray]]]:
    """In this process: the taps of a file, and their values in one case after the other."""
    runtimes = find_converter(format_name, backend).runtimes
    runtime = next(each for each in runtimes if each.name == runtime_name)
    assert isinstance(runtime, TappedRuntime)
    tapped = runtime.tap(path)
    return tapped.taps, (tapped.values(case.as_passed()) for case in cases)
