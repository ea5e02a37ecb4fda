"""One file of a comparison: converted, verified and evaluated, each step once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.comparison.images import LabeledImages
from mobilevit_sdk.comparison.record import FileRow, Floors, Status
from mobilevit_sdk.comparison.store import Store
from mobilevit_sdk.conversion.folder import Network
from mobilevit_sdk.conversion.pipeline import make_artifact
from mobilevit_sdk.conversion.plan import Conversion, require_toolchain
from mobilevit_sdk.errors import MobileViTError, ToolchainError
from mobilevit_sdk.formats.converter import label
from mobilevit_sdk.formats.runtime import OnRequestRuntime, Runtime, SelectiveRuntime, TimedRuntime
from mobilevit_sdk.parity import Agreement, Verdict, compare, verify
from mobilevit_sdk.progress import Progress, summed
from mobilevit_sdk.tasks.accuracy import top5_hits
from mobilevit_sdk.text import one_line


@dataclass(frozen=True)
class Subject:
    """What all files of a comparison are made from and asked about."""

    network: Network
    network_sha256: str
    images: LabeledImages
    reference: np.ndarray  # PyTorch's scores, float32 [images, num_classes]
    floors: Floors
    out: Path
    store: Store

    @property
    def top1(self) -> float:
        """PyTorch's, a share from 0 to 1."""
        return accuracy(self.reference, self.images.labels)[0]


@dataclass(frozen=True)
class Compared:
    """A row, its artifact where there is one, and the runtime that answers for it."""

    row: FileRow
    artifact: Artifact | None = None
    runtime: Runtime | None = None


def compare_file(conversion: Conversion, subject: Subject, progress: Progress) -> Compared:
    """Convert, verify and evaluate; whatever fails is in the row. Raises RequestError where `out` cannot be written."""
    converter = conversion.converter
    row = FileRow(
        name=label(converter),
        format=converter.format,
        backend=converter.backend,
        precision=conversion.precision,
        status="not converted",
    )
    found = _artifact(conversion, subject, progress)
    if not isinstance(found, Artifact):
        return Compared(msgspec.structs.replace(row, reason=one_line(found, 2000)))
    row = msgspec.structs.replace(
        row,
        artifact=found.path.parent.relative_to(subject.out).as_posix(),
        bytes=found.manifest.bytes,
        conversion_seconds=found.manifest.seconds,
    )
    row, stops = _verified(row, found, subject, conversion.name, progress)
    runtime = main_runtime(found)
    if runtime is None or stops:
        return Compared(row, found)
    try:
        return Compared(_evaluated(row, found, runtime, subject, conversion.name, progress), found, runtime)
    except MobileViTError as error:
        reason = one_line(f"{runtime.name} on the images: {error}", 2000)
        return Compared(msgspec.structs.replace(row, status="error", reason=reason), found)


def main_runtime(artifact: Artifact) -> Runtime | None:
    """Which runtime answers images and is timed: the first that runs here, one that can be timed before the others."""
    able = [
        runtime
        for runtime in artifact.converter.runtimes
        if not isinstance(runtime, OnRequestRuntime)
        and not (isinstance(runtime, SelectiveRuntime) and artifact.manifest.precision in runtime.refuses)
        and runtime.availability()
    ]
    return min(able, key=lambda runtime: not isinstance(runtime, TimedRuntime), default=None)


def accuracy(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Top-1 and top-5, shares from 0 to 1."""
    hits = top5_hits(scores, labels)
    return float(hits[:, 0].mean()), float(hits.any(axis=1).mean())


def _artifact(conversion: Conversion, subject: Subject, progress: Progress) -> Artifact | str:
    """The artifact, kept where it is up to date, or why there is none."""

    try:
        require_toolchain(conversion.converter)
        artifact, _ = make_artifact(conversion, subject.network, subject.out / "artifacts", progress=progress)
    except ToolchainError as error:
        return str(error)
    return artifact


def _verified(
    row: FileRow, artifact: Artifact, subject: Subject, task: str, progress: Progress
) -> tuple[FileRow, bool]:
    """The row with the gate's word on the file, and whether that is all there is to say."""
    if artifact.rejected:
        return msgspec.structs.replace(row, status="rejected", reason="; ".join(artifact.reasons)), False
    runtimes = [(runtime.name, runtime.availability()) for runtime in artifact.converter.runtimes]
    key = [
        artifact.manifest.sha256,
        subject.network_sha256,
        subject.network.thresholds[artifact.manifest.precision],
        [(name, available.version, available.reason) for name, available in runtimes],
    ]
    verdicts = subject.store.value(
        f"{artifact.path.parent.name}.verdicts",
        key,
        list[Verdict],
        lambda: verify(artifact, thresholds=subject.network.thresholds, progress=summed("verify", task, progress)),
        keep=lambda found: all(verdict.status != "error" for verdict in found),
    )
    status, reason = _judged(verdicts)
    noise = {(v.runtime, name): each.sqnr_db.worst for v in verdicts for name, each in _agreements(v).items()}
    _, output = worst = min(noise, key=noise.__getitem__, default=("", None))
    row = msgspec.structs.replace(
        row,
        status=status,
        reason=reason,
        sqnr_db=noise.get(worst),
        sqnr_output=output,
        verified_on=tuple(dict.fromkeys(runtime for runtime, _ in noise)),
    )
    return row, status == "not executed"


def _agreements(verdict: Verdict) -> dict[str | None, Agreement]:
    """Of each output by its name, where there are several, else of the only one."""
    if verdict.outputs:
        return dict(verdict.outputs.items())
    return {None: verdict.agreement} if verdict.agreement else {}


def _judged(verdicts: list[Verdict]) -> tuple[Status, str | None]:
    """The worst of the verdicts, with the reasons of those that have it."""
    ranks: tuple[tuple[str, Status], ...] = (("failed", "failed"), ("error", "error"), ("passed", "passed"))
    for status, judged in ranks:
        found = [verdict for verdict in verdicts if verdict.status == status]
        if found:
            reasons = "; ".join(f"{each.runtime}: {each.reason}" for each in found if each.reason)
            return judged, one_line(reasons, 2000) or None
    missing = "; ".join(f"{verdict.runtime}: {verdict.reason}" for verdict in verdicts)
    return "not executed", one_line(f"nothing here runs it ({missing or 'its runtimes run on request alone'})", 2000)


def _evaluated(
    row: FileRow, artifact: Artifact, runtime: Runtime, subject: Subject, task: str, progress: Progress
) -> FileRow:
    """The row with the file's answers to the images, judged by the floors."""
    version = runtime.availability().version
    scores = subject.store.scores(
        f"{artifact.path.parent.name}.scores",
        [artifact.manifest.sha256, runtime.name, version, repr(subject.images.values), subject.images.sha256],
        subject.reference.shape,
        lambda: subject.images.answers_of(
            artifact.on(runtime.name), lambda step: progress(dataclasses.replace(step, task=task))
        ),
    )
    top1, top5 = accuracy(scores, subject.images.labels)
    broken = int((~np.isfinite(scores)).any(axis=1).sum())
    misses = [f"{broken} of {len(scores)} images were answered with NaN or infinity"] if broken else []
    misses += filter(None, [subject.floors.miss(top1, subject.top1)])
    if misses:
        reason = "; ".join([*misses, *filter(None, [row.reason])])
        row = msgspec.structs.replace(row, status="failed" if row.status == "passed" else row.status, reason=reason)
    is_timed = isinstance(runtime, TimedRuntime)
    return msgspec.structs.replace(
        row,
        runtime=runtime.name,
        runtime_version=version,
        same_class=compare(subject.reference, scores).top1_agreement,
        top1=top1,
        top5=top5,
        untimed=None if is_timed else "it evaluates or emulates, which has no meaningful latency",
    )
