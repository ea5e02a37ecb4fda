"""From device reports to runs, which the gate judges as those of this machine's runtimes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from mobilevit_sdk.artifacts.artifact import Artifact, ArtifactLike, find_artifacts
from mobilevit_sdk.artifacts.reference import REFERENCE, Reference
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.parity.device.files import DeviceReportLike, OpenedReport, open_device_reports
from mobilevit_sdk.parity.device.types import DeviceReport, DeviceRun, Timing
from mobilevit_sdk.parity.runs import CHANGED, Run
from mobilevit_sdk.text import count, one_line, shorten

HALF = "it was computed in float16, as the app asked; ask for float32 there, or convert to fp16"
_RUNTIMES = {  # of the formats that apps know; a plug-in's format may run anywhere
    "tflite": ("litert", "tflite"),
    "executorch": ("executorch",),
    "coreml": ("coreml",),
    "coreai": ("coreai",),
}


def device_runs(
    artifacts: ArtifactLike | Sequence[ArtifactLike], reports: DeviceReportLike | Sequence[DeviceReportLike]
) -> list[Run]:
    """The runs in device reports, each with its answers or its refusal, for `judge`.

    A report belongs to the artifact whose file has its SHA-256. Raises RequestError for a report that cannot be read,
    of no artifact here, of other reference vectors or cases, or with answers of another shape.
    """
    found = find_artifacts(artifacts)
    return [
        run
        for each in open_device_reports(reports)
        for artifact in _artifacts_of(each, found)
        for run in _runs(each, artifact)
    ]


def _artifacts_of(opened: OpenedReport, artifacts: Sequence[Artifact]) -> list[Artifact]:
    """The artifacts with the file and the reference vectors of the report."""
    report, name, _ = opened
    of_file = [artifact for artifact in artifacts if artifact.manifest.sha256 == report.artifact.sha256]
    if not of_file:
        held = shorten([f"{each.path.parent.name} has {each.manifest.sha256[:12]}" for each in artifacts])
        about = f"the file {report.artifact.file!r} with SHA-256 {report.artifact.sha256}"
        raise RequestError(f"{name} is for {about}, which no artifact here has ({held}); give the one that the app ran")
    found = [artifact for artifact in of_file if _reference_sha256(artifact) == report.artifact.reference_sha256]
    if not found:
        where = of_file[0].path.parent / REFERENCE
        raise RequestError(
            f"{name} answers reference vectors with SHA-256 {report.artifact.reference_sha256[:12]}, and {where} has "
            f"another one; run the app again with the artifact's own"
        )
    return found


def _reference_sha256(artifact: Artifact) -> str:
    path = artifact.path.parent / REFERENCE
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        artifact.reference()  # says what is wrong with it
        raise


def _runs(opened: OpenedReport, artifact: Artifact) -> list[Run]:
    report, name, device = opened
    reference, unchanged = artifact.reference(), artifact.is_unchanged()
    known = _RUNTIMES.get(artifact.manifest.format)
    runs = []
    for run, runtime in zip(report.runs, report.run_names, strict=True):
        if known and run.runtime not in known:
            raise RequestError(f"{name}: {runtime} does not run {artifact.manifest.format} files")
        made = Run(
            artifact,
            runtime,
            run.runtime_version,
            device=device,
            facts=_facts(report, run),
            advice=HALF if run.precision == "fp16" and artifact.manifest.precision == "fp32" else None,
        )
        if run.error is not None:
            made = dataclasses.replace(made, refusal=("error", run.error))
        else:
            outputs = _outputs(run, reference, artifact, f"{name}: {runtime}")
            _check_entries(run, artifact, f"{name}: {runtime}")
            made = dataclasses.replace(made, outputs=outputs, reference=reference)
        runs.append(made if unchanged else dataclasses.replace(made, outputs=None, refusal=CHANGED))
    return runs


def _outputs(run: DeviceRun, reference: Reference, artifact: Artifact, where: str) -> np.ndarray:
    """The answers, float32 [cases, values]. Raises RequestError unless they answer the reference's cases."""
    expected, found = [case.name for case in reference.cases], [case.name for case in run.cases]
    if found != expected:
        place = next((i for i, pair in enumerate(zip(expected, found, strict=False)) if len(set(pair)) > 1), None)
        if place is None:
            difference = f"it has {count(found, 'case')} of {len(expected)}"
        else:
            difference = f"case {place + 1} is {found[place]!r} where the reference has {expected[place]!r}"
        raise RequestError(f"{where} does not answer the reference's cases in order: {one_line(difference)}")
    named = [output.name for output in artifact.manifest.spec.outputs]
    widths = [part[0].size for part in reference.split(reference.answers)]
    for case in run.cases:
        if sorted(case.outputs) != sorted(named):
            names = shorten(list(case.outputs)) or "none"
            wanted = f"{named[0]!r} alone" if len(named) == 1 else " and ".join(map(repr, named))
            raise RequestError(f"{where} gives for {one_line(case.name)!r} the outputs {names}, not {wanted}")
        for output, width in zip(named, widths, strict=True):
            if len(case.outputs[output]) != 4 * width:
                size = f"{len(case.outputs[output]):,} bytes of {output}, not {4 * width:,}: {width:,} float32 values"
                raise RequestError(f"{where} gives for {one_line(case.name)!r} {size}")
    rows = b"".join(case.outputs[output] for case in run.cases for output in named)
    return np.frombuffer(rows, "<f4").astype(np.float32).reshape(len(expected), sum(widths))


def _check_entries(run: DeviceRun, artifact: Artifact, where: str) -> None:
    """Raise RequestError for latencies of other entries than the file has."""
    names = [entry.name for entry in artifact.manifest.entries or ()]
    measured = [entry.name for entry in run.latency.by_entry] if run.latency else []
    if measured and measured != names:
        shown = shorten(measured)
        raise RequestError(
            f"{where} has latencies of the entries {shown}; the file has {shorten(names) or 'one alone'}"
        )


def _facts(report: DeviceReport, run: DeviceRun) -> tuple[tuple[str, str], ...]:
    """What else the report says about a run, for people: name and value."""
    facts = {"app": f"{report.app.name} {report.app.version}", "processor": report.device.processor}
    if run.fully_accelerated is not None:
        facts["accelerated"] = "the whole network" if run.fully_accelerated else "a part of the network"
    if run.precision:
        facts["arithmetic"] = run.precision
    if run.latency:
        facts["latency"] = _milliseconds(run.latency.inference_ms)
        if (prepared := run.latency.with_preprocessing_ms) and prepared.samples:
            facts["with preprocessing"] = _milliseconds(prepared)
        for entry in run.latency.by_entry[1:]:  # the first is the one above
            facts[f"latency of {entry.name}"] = _milliseconds(entry.inference_ms)
    if run.peak_memory_bytes is not None:
        facts["peak memory"] = f"{run.peak_memory_bytes / 1e6:.0f} MB"
    facts["thermal state"] = run.thermal_state
    return tuple((name, value) for name, value in facts.items() if value)


def _milliseconds(timing: Timing) -> str:
    return f"{timing.p50:.2f} ms, p90 {timing.p90:.2f} ms"
