"""Rounds: in each of them every candidate computes for a moment, in an order that changes.

Whatever disturbs the machine for a while then disturbs all candidates, and the ratio of two medians holds where neither
median would. All candidates in one run of rounds have the same number of threads.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

import msgspec
import numpy as np

from mobilevit_sdk.bench.candidates import Candidate
from mobilevit_sdk.bench.machine import Machine, describe_machine
from mobilevit_sdk.bench.roofline import SGEMM_MACS, open_sgemm
from mobilevit_sdk.bench.worker import Worker
from mobilevit_sdk.errors import MobileViTError, ToolchainError
from mobilevit_sdk.parity.metrics import MIN_SQNR_DB
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.text import count

ROUNDS = 20
INFERENCES = 10  # of each candidate in each round
PAUSE_SECONDS = 0.05  # before each turn: idle thread pools spin for a while


class Row(Strict, frozen=True):
    """The measurements of one candidate with one number of threads.

    `ratio` is `median_ms` over that of the candidate's reference, from the same rounds; `roof_share` is the share of
    the machine's best sgemm rate, with the same threads, that the network's multiply-accumulates reach; `sqnr_db`
    compares its answer with PyTorch's. Without numbers, `reason` says why there are none.
    """

    artifact: str
    runtime: str
    threads: int
    median_ms: float | None = None
    p90_ms: float | None = None
    ratio: float | None = None
    roof_share: float | None = None
    sqnr_db: float | None = None
    status: Literal["measured", "unavailable", "error"] = "measured"
    reason: str | None = None


class BenchResult(Strict, frozen=True):
    """`sgemm_gmacs_per_second` is the roof by number of threads, in 1e9 float32 multiply-accumulates a second."""

    machine: Machine
    rounds: int
    inferences: int  # of each candidate in each round
    sgemm_gmacs_per_second: dict[int, float]
    results: list[Row]


class Turns(Protocol):
    """Something that computes when it is its turn."""

    def turn(self, inferences: int) -> list[float]:
        """The seconds of each inference. Raises MobileViTError."""
        ...


T = TypeVar("T", bound=Turns)
Timing = list[float] | MobileViTError  # seconds of all inferences, or what ended them


def bench(
    candidates: Sequence[Candidate],
    *,
    threads: Sequence[int],
    against: Callable[[Candidate], Candidate],
    rounds: int = ROUNDS,
    progress: Progress = silent,
) -> BenchResult:
    """Measure every candidate with each number of threads, in interleaved rounds of `INFERENCES` inferences.

    Each lives in a process of its own, warm, and is timed from its prepared input to its scores; it first has to answer
    as PyTorch does. `against` names each candidate's reference, one of the candidates, whose median the ratio is over.
    A candidate that crashes or fails becomes a row with its reason, and the others go on. Rows come by threads, then by
    candidates. `progress` is told how many candidates are warm, and how many turns are over.
    """
    machine = describe_machine()
    roofs: dict[int, float] = {}
    results: list[Row] = []
    for number in threads:
        rows, roofs[number] = _measure(candidates, number, rounds, progress)
        for candidate, row in rows.items():
            base = rows[against(candidate)].median_ms
            results.append(msgspec.structs.replace(row, ratio=row.median_ms / base if row.median_ms and base else None))
    return BenchResult(machine, rounds, INFERENCES, roofs, results)


def _measure(
    candidates: Sequence[Candidate], threads: int, rounds: int, progress: Progress
) -> tuple[dict[Candidate, Row], float]:
    """A row for each candidate, without its ratio, and the machine's rate of sgemm."""
    roof = Worker(open_sgemm, threads, np.zeros(0, np.uint8))
    workers = {
        candidate: Worker(candidate.open_session, threads, candidate.question.image)
        for candidate in candidates
        if candidate.unavailable is None
    }
    sqnr: dict[Candidate, float] = {}
    errors: dict[Candidate, MobileViTError] = {}

    def tell(step: Step) -> None:
        progress(dataclasses.replace(step, detail=count(threads, "thread")))

    try:
        roof.scores()
        for done, (candidate, worker) in enumerate(workers.items()):
            tell(Step("warming up", done, len(workers)))
            try:
                sqnr[candidate] = _agreement(candidate, worker.scores())
            except MobileViTError as error:
                errors[candidate] = error
        ready = [roof, *(workers[candidate] for candidate in sqnr)]
        timings = interleave(ready, rounds, pause=PAUSE_SECONDS, progress=tell)
    finally:
        for worker in (roof, *workers.values()):
            worker.stop()
    for worker in (roof, *workers.values()):
        worker.join()
    roof_timing = timings[roof]
    if isinstance(roof_timing, MobileViTError):
        raise roof_timing
    rate = SGEMM_MACS / 1e9 / min(roof_timing)  # disturbances do not lower a roof
    rows = {}
    for candidate in candidates:
        row = Row(candidate.artifact, candidate.runtime, threads, sqnr_db=sqnr.get(candidate))
        if candidate.unavailable is not None:
            rows[candidate] = msgspec.structs.replace(row, status="unavailable", reason=candidate.unavailable)
        else:
            timing = errors.get(candidate) or timings[workers[candidate]]
            rows[candidate] = _timed(row, timing, candidate.question.macs / 1e9 / rate)
    return rows, rate


def _timed(row: Row, timing: Timing, roof_seconds: float) -> Row:
    """The row with its latencies, or with what ended them; `roof_seconds` is what the roof would take."""
    if isinstance(timing, MobileViTError):
        return msgspec.structs.replace(row, status="error", reason=str(timing))
    median, p90 = summarize(timing)
    return msgspec.structs.replace(row, median_ms=median * 1e3, p90_ms=p90 * 1e3, roof_share=roof_seconds / median)


def interleave(
    workers: Sequence[T], rounds: int, *, pause: float = 0.0, progress: Progress = silent
) -> dict[T, Timing]:
    """Give each live worker one turn in every round, in a new random order: none always follows the same other.

    `pause` is in seconds, before each turn.
    """
    seconds: dict[T, list[float]] = {worker: [] for worker in workers}
    errors: dict[T, MobileViTError] = {}
    for number in range(rounds):
        order = random.Random(number).sample(workers, len(workers))
        for place, worker in enumerate(order):
            if worker not in errors:
                time.sleep(pause)
                try:
                    seconds[worker] += worker.turn(INFERENCES)
                except MobileViTError as error:
                    errors[worker] = error
            progress(Step("measuring", number * len(workers) + place + 1, rounds * len(workers)))
    return {worker: errors.get(worker, seconds[worker]) for worker in workers}


def summarize(seconds: Sequence[float]) -> tuple[float, float]:
    """Median and 90th percentile, interpolated between neighbors."""
    median, p90 = np.percentile(seconds, [50, 90])
    return float(median), float(p90)


def _agreement(candidate: Candidate, scores: np.ndarray) -> float:
    """The SQNR of an answer, in dB. Raises ToolchainError for the answer of another function."""
    sqnr = candidate.question.sqnr_db(scores)
    if sqnr < MIN_SQNR_DB:
        raise ToolchainError(f"it computes something else than PyTorch: SQNR {sqnr:.1f} dB")
    return sqnr
