"""All runs that are judged together: of this machine's runtimes, and of phones."""

from __future__ import annotations

from collections.abc import Sequence

from mobilevit_sdk.arguments import names, several
from mobilevit_sdk.artifacts.artifact import ArtifactLike, find_artifacts
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.parity.device.files import DeviceReportLike
from mobilevit_sdk.parity.device.judging import device_runs
from mobilevit_sdk.parity.runs import TIMEOUT_SECONDS, ReferenceOf, Run, run_artifacts
from mobilevit_sdk.progress import Progress, silent

DEVICE = "device"  # as the name of a runtime: the phones of the reports


def collect_runs(
    artifacts: ArtifactLike | Sequence[ArtifactLike],
    *,
    runtimes: str | Sequence[str] | None = None,
    device_reports: DeviceReportLike | Sequence[DeviceReportLike] = (),
    reference: ReferenceOf | None = None,
    timeout: float = TIMEOUT_SECONDS,
    progress: Progress = silent,
) -> list[Run]:
    """The runs of `run_artifacts` and those in device reports, by artifact.

    `runtimes` limits which runtimes of this machine run; "device" alone runs none of them, and artifacts without a
    report are then unavailable. Reports are always judged by the vectors stored beside the artifact. Raises as
    `run_artifacts` and `device_runs` do, and RequestError for "device" without a report.
    """
    opened, runtimes = find_artifacts(artifacts), names(runtimes)
    listed: list[DeviceReportLike] = several(device_reports)
    local = [name for name in runtimes if name != DEVICE]
    if DEVICE in runtimes and not listed:
        raise RequestError(f"the runtime {DEVICE!r} stands for phones; give their files with `device_reports`")
    runs = device_runs(opened, listed)
    if local or not runtimes:
        runs = run_artifacts(opened, runtimes=local, reference=reference, timeout=timeout, progress=progress) + runs
    else:
        reported = {run.artifact.path for run in runs}
        runs += [
            Run(each, DEVICE, None, refusal=("unavailable", "no device report is for it"))
            for each in opened
            if each.path not in reported
        ]
    order = [artifact.path for artifact in opened]
    return sorted(runs, key=lambda run: order.index(run.artifact.path))
