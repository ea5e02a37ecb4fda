"""What a comparison has found: a row for each file, what they are compared with, and what they had to reach."""

from __future__ import annotations

from typing import Literal

from mobilevit_sdk.bench import Machine
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.text import percent

Status = Literal["passed", "failed", "rejected", "error", "not executed", "not converted"]


class Floors(Strict, frozen=True):
    """The least top-1 of every file, in percent: so many points below PyTorch's at most, and so much at least."""

    max_drop: float | None = None
    min_top1: float | None = None

    def miss(self, top1: float, reference: float) -> str | None:
        """Which floor a top-1 misses, in words; both are shares from 0 to 1, `reference` is PyTorch's."""
        drop = 100 * (reference - top1)
        if self.max_drop is not None and drop > self.max_drop + 1e-9:
            return f"top-1 {top1:.2%} is {drop:.2f} points below PyTorch's, at most {self.max_drop:g} may be (max_drop)"
        if self.min_top1 is not None and 100 * top1 < self.min_top1 - 1e-9:
            return f"top-1 {top1:.2%} is below {self.min_top1:g}% (min_top1)"
        return None


class FileRow(Strict, frozen=True, kw_only=True):
    """One file. What was not reached is None, and `reason` says why; shares are from 0 to 1.

    `status`: "passed" the gate and the floors, "failed" one of them, "rejected" as integers that do the task too badly;
    "error": a runtime failed; "not executed": no runtime of this machine runs it; "not converted": there is no file.
    """

    name: str  # the format, with its backend where that is not the default
    format: str
    backend: str | None
    precision: str
    status: Status
    reason: str | None = None
    artifact: str | None = None  # its folder, from the comparison's
    bytes: int | None = None
    conversion_seconds: float | None = None
    sqnr_db: float | None = None  # of the worst case in the worst output on the worst runtime
    sqnr_output: str | None = None  # which output that is, where there are several
    verified_on: tuple[str, ...] = ()
    runtime: str | None = None  # that answered the images, and was timed where it can be
    runtime_version: str | None = None
    same_class: float | None = None  # share of the images with PyTorch's best class, or a tie
    top1: float | None = None
    top5: float | None = None
    median_ms: float | None = None
    p90_ms: float | None = None
    untimed: str | None = None  # why there is no latency


class Comparison(Strict, frozen=True, kw_only=True):
    """The files of one checkpoint on one set of labeled images, beside PyTorch's own answers."""

    model: str
    checkpoint: str
    sha256: str | None
    data: str
    images: int
    outputs: tuple[str, ...]  # of the network; the gate holds each
    task: str | None  # the output that the images ask, where there are several
    top1: float  # PyTorch's
    top5: float
    median_ms: float | None  # PyTorch's, eager
    p90_ms: float | None
    rows: tuple[FileRow, ...]
    floors: Floors
    calibration: str | None  # what integer precisions were calibrated with, in words; None without any
    threads: int
    machine: Machine | None  # that the latencies are of
    sdk: str  # version
    when: str  # date in UTC
    notes: tuple[str, ...] = ()

    @property
    def asked(self) -> str | None:
        """In words, which of several outputs best classes and top-1 are of."""
        if self.task is None:
            return None
        return f"{self.task}; the gate holds {', '.join(self.outputs)}, and the worst decides"

    @property
    def missed(self) -> bool:
        """Whether a file that ran missed a threshold or a floor, or was rejected."""
        return any(row.status in ("failed", "rejected") for row in self.rows)

    @property
    def broken(self) -> bool:
        """Whether a conversion or a runtime failed, or nothing could be executed."""
        statuses = {row.status for row in self.rows}
        return bool(statuses & {"error", "not converted"}) or not statuses & {"passed", "failed", "rejected"}

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each status, of those that occur."""
        statuses = [row.status for row in self.rows]
        return {status: statuses.count(status) for status in dict.fromkeys(statuses)}

    @property
    def untimed_runtimes(self) -> dict[str, str]:
        """Why runtimes that answered have no latency, by name."""
        return {row.runtime: row.untimed for row in self.rows if row.runtime and row.untimed}


def drop_in_points(row: FileRow, comparison: Comparison) -> str:
    """The row's top-1 less PyTorch's, as "-0.40"."""
    return "" if row.top1 is None else f"{100 * (row.top1 - comparison.top1) + 0:+.2f}"


def cells(row: FileRow) -> dict[str, str]:
    """The row's numbers as tables show them, by column; empty where there are none."""
    sqnr = "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
    return {
        "size": "" if row.bytes is None else f"{row.bytes / 1e6:.2f}",
        "same class": "" if row.same_class is None else percent(row.same_class),
        "top-1": "" if row.top1 is None else f"{row.top1:.2%}",
        "SQNR": f"{sqnr} ({row.sqnr_output})" if row.sqnr_output else sqnr,
        "ms": "" if row.median_ms is None else f"{row.median_ms:.2f}",
        "seconds": "" if row.conversion_seconds is None else f"{row.conversion_seconds:.0f}",
    }
