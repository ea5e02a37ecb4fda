"""What a pruning gains on the phone: the files of both networks, and their latencies side by side.

Fine-tuning changes weights but no shapes, so the latencies of files made before it hold after it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.bench import Candidate, Row, bench, candidates_of
from mobilevit_sdk.bench.plan import thread_counts
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.conversion.pipeline import convert
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.files import decode_json, replacing
from mobilevit_sdk.formats.converter import converters
from mobilevit_sdk.formats.runtime import TimedRuntime
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.spec import Strict

MEASURED = "measured.json"


class FileLatency(Strict, frozen=True):
    """One format on one runtime, before and after: bytes of the files, medians in milliseconds and their ratio.

    Where the medians are None, `reason` says why.
    """

    format: str
    runtime: str
    threads: int
    bytes: tuple[int, int]
    median_ms: tuple[float, float] | None = None
    ratio: float | None = None
    reason: str | None = None


class Latencies(Strict, frozen=True):
    """All that was measured in one run of interleaved rounds; `files` are the SHA-256 of those that took part."""

    machine: str
    files: list[str]
    rows: list[FileLatency]


def timed_formats() -> list[str]:
    """Formats that can be converted to here, and have a runtime that can be timed here."""
    return [
        name
        for name, converter in converters().items()
        if converter.availability()
        and any(isinstance(runtime, TimedRuntime) and runtime.availability() for runtime in converter.runtimes)
    ]


def measure_files(
    original: Checkpoint, pruned: Checkpoint, folder: Path, progress: Progress = silent, rounds: int = 20
) -> Latencies:
    """Convert both to float32 in every format of `timed_formats`, and let the files take turns on their runtimes.

    Files and measurements stay in `folder` and are reused from there. Raises ToolchainError when a file cannot be made.
    """
    formats = timed_formats()
    ended: set[tuple[str, str]] = set()

    def converted(checkpoint: Checkpoint, name: str) -> list[Artifact]:
        def hear(step: Step) -> None:
            if step.status in ("done", "failed"):
                ended.add((name, step.task))
            progress(Step("converting", len(ended), 2 * len(formats)))

        result = convert(
            checkpoint, out=folder / name, formats=formats, precisions=["fp32"], check=False, progress=hear
        )
        if result.failures:
            raise ToolchainError("; ".join(f"{failure.format}: {failure.error}" for failure in result.failures))
        return result.artifacts

    pairs = list(zip(converted(original, "unpruned"), converted(pruned, "pruned"), strict=True))
    hashes = [file.manifest.sha256 for pair in pairs for file in pair]
    kept = _read(folder / MEASURED)
    if kept is not None and kept.files == hashes:
        return kept
    measured = _measure(pairs, hashes, rounds, progress)
    with replacing(folder / MEASURED) as fresh:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(measured)))
    return measured


def _measure(pairs: list[tuple[Artifact, Artifact]], hashes: list[str], rounds: int, progress: Progress) -> Latencies:
    turns = [
        (one, other, pair)
        for pair in pairs
        for one, other in zip(*map(candidates_of, pair), strict=True)
        if one.unavailable is None
    ]
    against: dict[Candidate, Candidate] = {each: one for one, other, _ in turns for each in (one, other)}
    counts = thread_counts()

    result = bench(list(against), threads=counts, against=against.__getitem__, rounds=rounds, progress=progress)
    measured = zip(result.results[::2], result.results[1::2], [pair for *_, pair in turns] * len(counts), strict=True)
    rows = [_row(one, other, *pair) for one, other, pair in measured]
    return Latencies(machine=result.machine.describe(), files=hashes, rows=rows)


def _row(one: Row, other: Row, before: Artifact, after: Artifact) -> FileLatency:
    medians = (one.median_ms, other.median_ms)
    return FileLatency(
        format=before.manifest.format,
        runtime=one.runtime,
        threads=one.threads,
        bytes=(before.manifest.bytes, after.manifest.bytes),
        median_ms=None if None in medians else medians,  # type: ignore[arg-type]
        ratio=other.ratio,
        reason=one.reason or other.reason,
    )


def _read(path: Path) -> Latencies | None:
    try:
        return decode_json(path.read_bytes(), Latencies)
    except (OSError, ValueError):
        return None
