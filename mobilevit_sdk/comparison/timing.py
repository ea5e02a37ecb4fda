"""All files of a comparison timed at once, with PyTorch: in interleaved rounds, so that their ratios hold."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mobilevit_sdk.bench import BASELINES, BenchResult, Candidate, Machine, Row, bench, candidates_of, prepare
from mobilevit_sdk.bench.machine import describe_machine
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.comparison.file import Compared
from mobilevit_sdk.comparison.record import FileRow
from mobilevit_sdk.comparison.store import Store
from mobilevit_sdk.formats.runtime import TimedRuntime
from mobilevit_sdk.progress import Progress, Step


@dataclass(frozen=True)
class Timing:
    """Latencies of PyTorch and of files, by the artifact's folder and file; empty where nothing was timed."""

    pytorch: Row | None = None
    of_file: dict[str, Row] = field(default_factory=dict)
    machine: Machine | None = None

    def added(self, compared: Compared) -> FileRow:
        """The row with its latency, or why it has none."""
        row = compared.row
        timed = self.of_file.get(_name(compared))
        if timed is None:
            return row
        return msgspec.structs.replace(row, median_ms=timed.median_ms, p90_ms=timed.p90_ms, untimed=timed.reason)


def time_files(
    compared: Sequence[Compared], checkpoint: Checkpoint, store: Store, *, threads: int, rounds: int, progress: Progress
) -> Timing:
    """Time the files whose runtime can be timed, and PyTorch. Raises ToolchainError where PyTorch itself fails."""
    able = [each for each in compared if each.artifact and isinstance(each.runtime, TimedRuntime)]
    if not able:
        return Timing()
    machine = describe_machine()
    key = [
        [(each.artifact.manifest.sha256, each.row.runtime, each.row.runtime_version) for each in able if each.artifact],
        checkpoint.origin,
        [threads, rounds, machine.processor, machine.cores, machine.tools],
    ]

    def measure() -> BenchResult:
        with tempfile.TemporaryDirectory(prefix="mobilevit-") as scratch:
            progress(Step("load"))
            files = [_candidate(each) for each in able]
            pytorch = prepare(BASELINES["pytorch"], checkpoint, Path(scratch)).candidate(files[0].question)
            return bench(
                [pytorch, *files], threads=[threads], against=lambda _: pytorch, rounds=rounds, progress=progress
            )

    result = store.value("timing", key, BenchResult, measure, keep=lambda made: _is_whole(made.results))
    pytorch, *files = result.results
    named = {_name(each): row for each, row in zip(able, files, strict=True)}
    return Timing(pytorch, named, result.machine)


def _candidate(compared: Compared) -> Candidate:
    assert compared.artifact is not None
    found = candidates_of(compared.artifact)
    return next(each for each in found if each.runtime == compared.row.runtime)


def _is_whole(rows: Sequence[Row]) -> bool:
    return all(row.status == "measured" for row in rows)


def _name(compared: Compared) -> str:
    return f"{compared.row.name} {compared.row.precision}"
