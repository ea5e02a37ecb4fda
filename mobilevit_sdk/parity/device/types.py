"""What a device report holds: one JSON document in which an app sends a phone's raw answers and latencies.

The types are strict; `docs/device-report.schema.json` is made of them. All members are always present, but `entries`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from mobilevit_sdk.spec import Strict

Text = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"),
]  # one line, without control characters
Reason = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=2000, pattern=r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"),
]
Sha256 = Annotated[str, msgspec.Meta(min_length=64, max_length=64, pattern="^[0-9a-f]{64}$")]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # what every language's JSON holds

RuntimeName = Literal["litert", "tflite", "executorch", "coreml", "coreai"]
Accelerator = Literal["cpu", "gpu", "npu", "ane", "all", "wasm", "webgpu"]
ThermalState = Literal["nominal", "fair", "serious", "critical"]

_OF_APPLE = frozenset({"cpu", "gpu", "ane", "all"})
ACCELERATORS: dict[str, frozenset[str]] = {  # that a runtime can be asked for; a run on any other cannot have been
    "litert": frozenset({"cpu", "gpu", "npu", "wasm", "webgpu"}),
    "tflite": frozenset({"cpu", "gpu", "npu", "ane", "wasm"}),  # the Neural Engine by TFLite's Core ML delegate
    "executorch": frozenset({"cpu", "gpu", "npu", "ane", "all", "wasm", "webgpu"}),  # as its backends allow
    "coreml": _OF_APPLE,
    "coreai": _OF_APPLE,
}

MAX_SAMPLES = 10_000


class App(Strict, frozen=True):
    """The app that wrote the report."""

    name: Text
    version: Text


class Device(Strict, frozen=True):
    """The phone, as its system names it."""

    model: Text
    system: Text
    processor: Text | None

    @property
    def label(self) -> str:
        """How tables name the phone: `Pixel 8 (Android 15)`."""
        return f"{self.model} ({self.system})"


class ReportedArtifact(Strict, frozen=True):
    """Which phone file ran, and which reference vectors were asked."""

    name: Text
    file: Text
    sha256: Sha256  # of the file; of a package folder, the one in its manifest
    reference_sha256: Sha256  # of the bytes of reference.safetensors


class CaseOutputs(Strict, frozen=True):
    """The raw answers to one case by output name: float32, little-endian, row-major; base64 in JSON."""

    name: Annotated[str, msgspec.Meta(max_length=1000)]
    outputs: dict[str, bytes]


class Timing(Strict, frozen=True):
    """Latencies in milliseconds in the order of measurement, with nearest-rank percentiles."""

    samples: Annotated[tuple[Milliseconds, ...], msgspec.Meta(max_length=MAX_SAMPLES)]
    p50: Milliseconds
    p90: Milliseconds

    @classmethod
    def of(cls, samples: Sequence[float]) -> Timing:
        """The timing of samples in milliseconds; without any, both percentiles are 0."""
        return cls(samples=tuple(samples), p50=nearest_rank(samples, 50), p90=nearest_rank(samples, 90))


class EntryLatency(Strict, frozen=True):
    """How long one image takes in one entry of a file of several input sizes; `name` is that of the manifest."""

    name: Text
    inference_ms: Timing
    with_preprocessing_ms: Timing | None


class Latency(Strict, frozen=True):
    """How long one image takes after `warm_up` inferences that were not timed.

    `entries` is there for files of several input sizes: the times of each, in the manifest's order. The first are those
    that stand beside it.
    """

    warm_up: Count
    inference_ms: Timing
    with_preprocessing_ms: Timing | None
    entries: Annotated[tuple[EntryLatency, ...], msgspec.Meta(min_length=2, max_length=16)] | msgspec.UnsetType = (
        msgspec.UNSET
    )

    @property
    def by_entry(self) -> tuple[EntryLatency, ...]:
        """The times of each entry; none of a file of one size."""
        return () if self.entries is msgspec.UNSET else self.entries


class DeviceRun(Strict, frozen=True):
    """One runtime on one accelerator: the answers to all reference cases in order, or the `error` that prevented them.

    `precision` is the arithmetic asked of the accelerator, `fully_accelerated` is None where the runtime does not tell.
    """

    runtime: RuntimeName
    runtime_version: Text | None
    accelerator: Accelerator
    precision: Literal["fp32", "fp16"] | None
    fully_accelerated: bool | None
    cases: tuple[CaseOutputs, ...]
    error: Reason | None
    latency: Latency | None
    peak_memory_bytes: Count | None
    thermal_state: ThermalState | None


class DeviceReport(Strict, frozen=True):
    """What one app on one device says about one artifact."""

    schema: Literal[1]
    app: App
    device: Device
    artifact: ReportedArtifact
    created: Annotated[datetime, msgspec.Meta(tz=True)]
    runs: Annotated[tuple[DeviceRun, ...], msgspec.Meta(min_length=1, max_length=32)]
    digest: Sha256  # of all bytes of the document before these digits; `seal` computes it

    @property
    def run_names(self) -> list[str]:
        """How verdicts name each run: `litert-gpu`; `litert-gpu-fp16` where only the precision tells runs apart."""
        names = [f"{run.runtime}-{run.accelerator}" for run in self.runs]
        return [
            f"{name}-{run.precision}" if names.count(name) > 1 and run.precision else name
            for name, run in zip(names, self.runs, strict=True)
        ]


def nearest_rank(samples: Sequence[float], percent: int) -> float:
    """The sample at rank ceil(percent / 100 * count) of the sorted ones; 0 of none."""
    return sorted(samples)[-(-percent * len(samples) // 100) - 1] if samples else 0.0
