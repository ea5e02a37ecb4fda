"""Verdicts: each artefact on each runtime, held to the thresholds of its precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from mobilevit_sdk.artifact import Artifact, Case, Reference, find_artifacts
from mobilevit_sdk.child import emit, run_in_child
from mobilevit_sdk.converter import find_converter
from mobilevit_sdk.errors import ArtifactError, MobileViTError, RequestError, nearest
from mobilevit_sdk.parity.metrics import Agreement, compare
from mobilevit_sdk.runtime import EmulatedRuntime, Runtime
from mobilevit_sdk.spec import Strict


@dataclass(frozen=True)
class Threshold:
    """The least that the worst case, or the share of the cases, may have."""

    sqnr_db: float
    top1_agreement: float


THRESHOLDS = {
    "fp32": Threshold(sqnr_db=90.0, top1_agreement=1.0),
    "fp16": Threshold(sqnr_db=40.0, top1_agreement=0.99),
}


class Verdict(Strict, frozen=True):
    """What one runtime said of one artefact. Without an agreement, `reason` says why there is none."""

    artifact: str
    format: str
    precision: str
    runtime: str
    status: Literal["passed", "failed", "unavailable", "error"]
    agreement: Agreement | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, object]:
        """The flat form of the command line's contract."""
        row: dict[str, object] = msgspec.to_builtins(self)
        agreement = row.pop("agreement") or dict.fromkeys(Agreement.__struct_fields__)
        assert isinstance(agreement, dict)
        del agreement["case_sqnr_db"]
        return {**row, **agreement, "reason": row["reason"]}


@dataclass(frozen=True)
class VerifyProgress:
    """`done` of `total` cases have run."""

    artifact: Path
    runtime: str
    done: int
    total: int


def verify(
    artifacts: Sequence[Path | str | Artifact],
    *,
    runtimes: Sequence[str] = (),
    reference: Callable[[Artifact], Reference] = Artifact.reference,
    on_progress: Callable[[VerifyProgress], None] = lambda progress: None,
) -> list[Verdict]:
    """Run artefacts and compare their answers with PyTorch's: a verdict for each artefact on each of its runtimes.

    `artifacts` are files, folders, or folders of artefacts; `runtimes` limits which run, and emulated ones run only
    where they are among them. `reference` gives cases and
    answers, by default the vectors stored beside the file. Raises ArtifactError for what is no artefact and
    RequestError for an unknown runtime.
    """
    opened: list[Artifact] = []
    for item in artifacts:
        opened += [item] if isinstance(item, Artifact) else find_artifacts([Path(item)])
    known = {runtime.name for artifact in opened for runtime in _runtimes_of(artifact)}
    for name in runtimes:
        if name not in known:
            raise RequestError(f"no artefact here runs on a runtime {name!r}; {nearest(name, known)}")
    return [
        _judge(artifact, runtime, reference, on_progress, is_named=bool(runtimes))
        for artifact in opened
        for runtime in _runtimes_of(artifact)
        if not runtimes or runtime.name in runtimes
    ]


def passed(verdicts: Sequence[Verdict]) -> bool:
    """Whether every artefact ran somewhere, and everything that ran met its thresholds."""
    ran = {verdict.artifact for verdict in verdicts if verdict.status == "passed"}
    bad = any(verdict.status in ("failed", "error") for verdict in verdicts)
    return bool(verdicts) and not bad and ran == {verdict.artifact for verdict in verdicts}


def _runtimes_of(artifact: Artifact) -> tuple[Runtime, ...]:
    return find_converter(artifact.manifest.format, artifact.manifest.backend).runtimes


def _judge(
    artifact: Artifact,
    runtime: Runtime,
    reference_for: Callable[[Artifact], Reference],
    on_progress: Callable[[VerifyProgress], None],
    is_named: bool,
) -> Verdict:
    manifest = artifact.manifest
    threshold = THRESHOLDS.get(manifest.precision)
    if threshold is None:
        raise RequestError(
            f"no thresholds for precision {manifest.precision!r}; {nearest(manifest.precision, THRESHOLDS)}"
        )

    def verdict(
        status: Literal["passed", "failed", "unavailable", "error"],
        reason: str | None = None,
        agreement: Agreement | None = None,
    ) -> Verdict:
        return Verdict(
            artifact=str(artifact.path),
            format=manifest.format,
            precision=manifest.precision,
            runtime=runtime.name,
            status=status,
            agreement=agreement,
            reason=reason,
        )

    availability = runtime.availability()
    if not availability:
        return verdict("unavailable", availability.reason)
    if isinstance(runtime, EmulatedRuntime) and not is_named:
        return verdict("unavailable", f"slow, as it is emulated: it runs only with --runtime {runtime.name}")
    if not artifact.is_unchanged():
        return verdict("failed", "the file is not the one that its manifest describes: its SHA-256 differs")
    reference = reference_for(artifact)
    total = len(reference.cases)
    on_progress(VerifyProgress(artifact.path, runtime.name, 0, total))
    try:
        outputs = run_in_child(
            run_cases,
            manifest.format,
            manifest.backend,
            runtime.name,
            artifact.path,
            reference.cases,
            on_event=lambda done: on_progress(VerifyProgress(artifact.path, runtime.name, done, total)),
        )
    except ArtifactError as error:  # the runtime works, and the file is not for it
        return verdict("failed", str(error))
    except MobileViTError as error:
        return verdict("error", str(error))
    if outputs.shape != reference.logits.shape:
        return verdict("failed", f"it answers {outputs.shape[1:]} scores, the reference {reference.logits.shape[1:]}")
    agreement = compare(reference.logits, outputs)
    misses = []
    if not np.isfinite(outputs).all():
        misses.append("scores are not finite")
    if agreement.sqnr_db.worst < threshold.sqnr_db:
        worst = reference.cases[agreement.case_sqnr_db.index(agreement.sqnr_db.worst)].name
        misses.append(f"SQNR {agreement.sqnr_db.worst:.1f} dB on {worst!r} is below {threshold.sqnr_db:g} dB")
    if agreement.top1_agreement < threshold.top1_agreement:
        misses.append(f"top-1 agreement {agreement.top1_agreement:.1%} is below {threshold.top1_agreement:.0%}")
    return verdict("failed" if misses else "passed", "; ".join(misses) or None, agreement)


def run_cases(
    format_name: str, backend: str | None, runtime_name: str, path: Path, cases: Sequence[Case]
) -> np.ndarray:
    """In a child process: the scores of every case on a runtime, float32 [cases, num_classes]."""
    runtime = next(r for r in find_converter(format_name, backend).runtimes if r.name == runtime_name)
    loaded = runtime.load(path)
    outputs = []
    for done, case in enumerate(cases, start=1):
        outputs.append(np.array(loaded(case.as_passed()), dtype=np.float32))
        emit(done)
    return np.stack(outputs)
