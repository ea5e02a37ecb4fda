"""Latencies that phones measured, from their device reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from mobilevit_sdk.arguments import several
from mobilevit_sdk.artifacts.artifact import ArtifactLike
from mobilevit_sdk.parity.device.files import DeviceReportLike, open_device_reports
from mobilevit_sdk.parity.device.judging import device_runs
from mobilevit_sdk.parity.device.types import DeviceReport, DeviceRun
from mobilevit_sdk.parity.metrics import MIN_SQNR_DB
from mobilevit_sdk.parity.runs import Run
from mobilevit_sdk.parity.views import lowest_db, views_of
from mobilevit_sdk.spec import Strict


class PhoneRow(Strict, frozen=True):
    """What one phone measured of one artifact on one runtime and accelerator; percentiles are nearest rank.

    "throttled": the phone was so hot that it slowed itself down; "unmeasured": the app measured no latency. `sqnr_db`
    compares the first answer with PyTorch's; it is None without the artifact. `reason` explains every other status
    than "measured".
    """

    artifact: str
    device: str
    processor: str | None
    runtime: str
    runtime_version: str | None
    precision: str | None
    fully_accelerated: bool | None
    p50_ms: float | None = None
    p90_ms: float | None = None
    with_preprocessing_p50_ms: float | None = None
    with_preprocessing_p90_ms: float | None = None
    warm_up: int | None = None
    samples: int | None = None
    peak_memory_bytes: int | None = None
    thermal_state: str | None = None
    sqnr_db: float | None = None
    status: Literal["measured", "throttled", "unmeasured", "error"] = "measured"
    reason: str | None = None


def phone_rows(
    reports: DeviceReportLike | Sequence[DeviceReportLike], artifacts: ArtifactLike | Sequence[ArtifactLike] = ()
) -> list[PhoneRow]:
    """A row for each run of each report, and for each entry of a file of several input sizes.

    With `artifacts`, answers that are not PyTorch's are errors.

    Raises RequestError for a report that cannot be read and, where there are artifacts, for one of another file.
    """
    listed: list[DeviceReportLike] = several(reports)
    opened = open_device_reports(listed)
    answers: dict[tuple[str, str | None, str], Run] = {}
    if artifacts:
        runs = device_runs(artifacts, listed)
        answers = {(run.artifact.manifest.sha256, run.device, run.runtime): run for run in runs}
    return [
        _row(run, name, device, report, answers.get((report.artifact.sha256, device, name)), place)
        for report, _, device in opened
        for run, name in zip(report.runs, report.run_names, strict=True)
        for place in (range(len(run.latency.by_entry) or 1) if run.latency else range(1))
    ]


def _row(run: DeviceRun, runtime: str, device: str, report: DeviceReport, answered: Run | None, place: int) -> PhoneRow:
    """Of the entry at `place`, among those whose latency was measured."""
    entries = run.latency.by_entry if run.latency else ()
    row = PhoneRow(
        artifact=report.artifact.name,
        device=device,
        processor=report.device.processor,
        runtime=f"{runtime} at {entries[place].name}" if entries else runtime,
        runtime_version=run.runtime_version,
        precision=run.precision,
        fully_accelerated=run.fully_accelerated,
        peak_memory_bytes=run.peak_memory_bytes,
        thermal_state=run.thermal_state,
    )
    if error := run.error or _another_function(answered, place):
        return msgspec.structs.replace(row, status="error", reason=error)
    if run.latency is None:
        return msgspec.structs.replace(row, status="unmeasured", reason="the app measured no latency")
    measured = entries[place] if entries else run.latency
    timing, prepared = measured.inference_ms, measured.with_preprocessing_ms
    row = msgspec.structs.replace(
        row,
        p50_ms=timing.p50,
        p90_ms=timing.p90,
        with_preprocessing_p50_ms=prepared.p50 if prepared and prepared.samples else None,
        with_preprocessing_p90_ms=prepared.p90 if prepared and prepared.samples else None,
        warm_up=run.latency.warm_up,
        samples=len(timing.samples),
        sqnr_db=_sqnr_db(answered, place),
    )
    if run.thermal_state in ("serious", "critical"):
        hot = f"its thermal state was {run.thermal_state}, in which phones slow down; let it cool and measure again"
        return msgspec.structs.replace(row, status="throttled", reason=hot)
    return row


def _another_function(answered: Run | None, place: int) -> str | None:
    """Why a latency is not that of this network: answers that are not PyTorch's, or a file that was changed."""
    if answered is None:
        return None
    if answered.refusal:
        return answered.refusal[1]
    sqnr = _sqnr_db(answered, place)
    if sqnr is not None and sqnr < MIN_SQNR_DB:
        return f"it computes something else than PyTorch: SQNR {sqnr:.1f} dB"
    return None


def _sqnr_db(answered: Run | None, place: int) -> float | None:
    """Of the first case of an entry, a photograph, as of all that is measured; `verify` judges all cases."""
    if answered is None or answered.outputs is None or answered.reference is None:
        return None
    sizes = [case.image.shape for case in answered.reference.cases]
    row = sizes.index(list(dict.fromkeys(sizes))[place])
    return lowest_db(views_of(answered.artifact.manifest.spec, answered.reference, answered.outputs, rows=[row]))
