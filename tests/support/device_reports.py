"""Device reports as an app would write them."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone

import msgspec
import numpy as np

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.artifacts.reference import REFERENCE
from mobilevit_sdk.parity.device import (
    App,
    CaseOutputs,
    Device,
    DeviceReport,
    DeviceRun,
    Latency,
    ReportedArtifact,
    Timing,
    parse_device_report,
    seal,
)

PIXEL = Device(model="Pixel 8", system="Android 15", processor="Tensor G3")


def device_run(
    artifact: Artifact, outputs: np.ndarray | None = None, runtime: str = "litert", accelerator: str = "gpu", **changes
) -> DeviceRun:
    """A run with `outputs` [cases, classes], by default the reference's own answers; `changes` replace members."""
    reference, (output,) = artifact.reference(), artifact.manifest.spec.outputs
    rows = reference.answers if outputs is None else outputs
    cases = tuple(
        CaseOutputs(name=case.name, outputs={output.name: row.astype("<f4").tobytes()})
        for case, row in zip(reference.cases, rows, strict=True)
    )
    run = DeviceRun(
        runtime=runtime,
        runtime_version="2.3.0",
        accelerator=accelerator,
        precision="fp32",
        fully_accelerated=True,
        cases=cases,
        error=None,
        latency=Latency(
            warm_up=5, inference_ms=Timing.of([4.2, 4.1, 4.4, 9.5]), with_preprocessing_ms=Timing.of([6.3, 6.1])
        ),
        peak_memory_bytes=123_456_789,
        thermal_state="nominal",
    )
    return msgspec.structs.replace(run, **changes)


def device_report(artifact: Artifact, /, *runs: DeviceRun, device: Device = PIXEL, **changes) -> DeviceReport:
    """A sealed report of `runs`, by default of one that answers as PyTorch did; `changes` replace members."""
    report = DeviceReport(
        schema=1,
        app=App(name="mobilevit-web", version="0.1.0"),
        device=device,
        artifact=ReportedArtifact(
            name=artifact.path.parent.name,
            file=artifact.path.name,
            sha256=artifact.manifest.sha256,
            reference_sha256=hashlib.sha256((artifact.path.parent / REFERENCE).read_bytes()).hexdigest(),
        ),
        created=datetime(2026, 11, 29, 12, tzinfo=timezone.utc),
        runs=runs or (device_run(artifact),),
        digest="",
    )
    return parse_device_report(seal(msgspec.structs.replace(report, **changes)))
