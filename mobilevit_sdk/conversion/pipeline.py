"""One checkpoint to all phone formats, side by side in processes of their own, each proven before it is called done."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from mobilevit_sdk.artifacts.artifact import MANIFEST, REJECTED, Artifact, Manifest, open_artifact, write_manifest
from mobilevit_sdk.artifacts.quantization_record import QuantizationRecord
from mobilevit_sdk.artifacts.reference import Reference, reference_of, write_reference
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.conversion.job import Job, convert_in_child
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.errors import ArtifactError, MobileViTError, RequestError, ToolchainError, suggest
from mobilevit_sdk.files import hash_and_size, replacing
from mobilevit_sdk.formats.converter import Converter, converters, find_converter, label, toolchain_versions
from mobilevit_sdk.formats.quantization import QUANTIZED, QuantizationRecipe
from mobilevit_sdk.parity import THRESHOLDS, Threshold, Verdict, verify
from mobilevit_sdk.processes.child import run_in_child
from mobilevit_sdk.quantization.calibrated import Calibrated, calibrate
from mobilevit_sdk.quantization.judgment import judge_by_task
from mobilevit_sdk.spec import ModelSpec, Origin

Stage = Literal[
    "waiting", "deploy", "convert", "inspect", "judge", "verify", "done", "up to date", "rejected", "failed"
]


@dataclass(frozen=True)
class ConvertProgress:
    """One conversion has reached a stage; `seconds` since all of them began."""

    format: str
    precision: str
    stage: Stage
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A conversion that did not end in an artifact; `exit_code` is the contract's for its kind of error."""

    format: str
    precision: str
    error: str
    exit_code: int


@dataclass(frozen=True)
class ConvertResult:
    """Artifacts and verdicts in the order of the formats; what failed stands apart."""

    model: str
    artifacts: list[Artifact]
    verdicts: list[Verdict]
    failures: list[Failure]


@dataclass(frozen=True)
class _Run:
    """What all conversions of one call share."""

    spec: ModelSpec
    origin: Origin
    reference: Reference
    weights: Path
    out: Path
    calibrated: Calibrated | None
    thresholds: Mapping[str, Threshold]

    def min_agreement(self, precision: str) -> float | None:
        """Of the artifact with its task; None where it has none, as random weights do."""
        if self.calibrated is None or self.origin.random_weights_seed is not None:
            return None
        return self.thresholds.get(precision, THRESHOLDS[precision]).task_agreement


def convert(
    checkpoint: Checkpoint,
    *,
    out: Path,
    formats: Sequence[str] = (),
    precisions: Sequence[str] = (),
    backend: str | None = None,
    recipe: QuantizationRecipe | None = None,
    calibration: Path | None = None,
    check: bool = True,
    force: bool = False,
    thresholds: Mapping[str, Threshold] = THRESHOLDS,
    on_calibration: Callable[[str, int, int], None] = lambda what, done, total: None,
    on_progress: Callable[[ConvertProgress], None] = lambda progress: None,
) -> ConvertResult:
    """Convert a checkpoint to `formats` (all that are installed as converters, by default) and verify every file.

    Each artifact becomes a folder `<model>-<format>-<precision>` in `out`, replaced as a whole or not at all; one that
    was made from the same weights, spec and tools is kept as it is unless `force`. `precisions` default to each
    format's own, `backend` to that of each format; a format that leaves no choice refuses one, and another than the
    default stands in the folder's name, behind the format. `thresholds` holds what each precision must reach.

    For precisions with integers, `recipe` says what is quantized, and half of the images of `calibration`, a folder or
    a Parquet file, give the ranges; the others judge the artifact by its task. Without `calibration`, images are
    synthesized from the network's own statistics, which takes minutes: `on_calibration` hears what is being done, how
    much of it and of how much. What keeps its class for too few images is rejected: its folder gets
    the suffix `.rejected`.

    A format whose toolchain fails does not stop the others: see `failures`. Raises RequestError for unknown formats,
    backends and precisions, for a folder that cannot be written and for images that cannot be read, ToolchainError for
    a toolchain not installed.
    """
    pairs = _plan(formats, precisions, backend)
    origin = checkpoint.origin  # hashes the file now, while it is the one that was loaded
    started = time.monotonic()

    def report(converter: Converter, precision: str, stage: Stage) -> None:
        on_progress(ConvertProgress(converter.format, precision, stage, time.monotonic() - started))

    for converter, precision in pairs:
        report(converter, precision, "waiting")
    reference = reference_of(
        checkpoint.model, checkpoint.spec.preprocessing, builtin_cases(checkpoint.spec.preprocessing)
    )
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as scratch:
        weights = Path(scratch) / "weights.safetensors"
        save_checkpoint(checkpoint.model, checkpoint.spec, weights)
        quantizing = any(precision in QUANTIZED for _, precision in pairs)
        calibrated = (
            calibrate(checkpoint, recipe or QuantizationRecipe(), calibration, Path(scratch), on_calibration)
            if quantizing
            else None
        )
        run = _Run(checkpoint.spec, origin, reference, weights, out, calibrated, thresholds)

        def work(pair: tuple[Converter, str]) -> tuple[Artifact, list[Verdict]] | Failure:
            converter, precision = pair
            try:
                artifact = None if force else _up_to_date(converter, precision, run)
                kept = artifact is not None
                if artifact is None:
                    artifact = _convert_one(
                        converter, precision, run, lambda stage: report(converter, precision, stage)
                    )
                report(converter, precision, "verify")
                verdicts = verify([artifact], thresholds=thresholds) if check and not artifact.rejected else []
            except MobileViTError as error:
                report(converter, precision, "failed")
                return Failure(converter.format, precision, str(error), error.exit_code)
            report(converter, precision, "rejected" if artifact.rejected else "up to date" if kept else "done")
            return artifact, verdicts

        with ThreadPoolExecutor(max_workers=max(3, os.cpu_count() or 1)) as pool:
            outcomes = list(pool.map(work, pairs))
    done = [outcome for outcome in outcomes if not isinstance(outcome, Failure)]
    return ConvertResult(
        model=checkpoint.spec.model,
        artifacts=[artifact for artifact, _ in done],
        verdicts=[verdict for _, verdicts in done for verdict in verdicts],
        failures=[outcome for outcome in outcomes if isinstance(outcome, Failure)],
    )


def _plan(formats: Sequence[str], precisions: Sequence[str], backend: str | None) -> list[tuple[Converter, str]]:
    """Every format with every requested precision that it has; a request that gives nothing is an error."""
    chosen = [find_converter(name, backend) for name in dict.fromkeys(formats or converters())]
    known = {precision for converter in chosen for precision in (*converter.precisions, *converter.nearest_precision)}
    for precision in precisions:
        if precision not in known:
            raise RequestError(f"no chosen format has precision {precision!r}; {suggest(precision, known)}")
    plan = []
    for converter in chosen:
        wanted = [p for p in dict.fromkeys(precisions) if p in converter.precisions] or list(converter.precisions[:1])
        if precisions and wanted[0] not in precisions:
            raise RequestError(_refusal(converter, precisions))
        availability = converter.availability()
        if not availability:
            raise ToolchainError(f"cannot convert to {converter.format}: {availability.reason}")
        plan += [(converter, precision) for precision in wanted]
    return plan


def _refusal(converter: Converter, precisions: Sequence[str]) -> str:
    nearest_ones = [
        f"{p} comes nearest in {converter.nearest_precision[p]}" for p in precisions if p in converter.nearest_precision
    ]
    advice = "; ".join(nearest_ones) or f"it has {', '.join(converter.precisions)}"
    return (
        f"{label(converter)} has no {' or '.join(precisions)} ({advice}); leave it out of --to, or add one of its "
        f"precisions"
    )


def artifact_folder(out: Path, spec: ModelSpec, converter: Converter, precision: str) -> Path:
    return out / f"{spec.model}-{label(converter)}-{precision}"


def _convert_one(converter: Converter, precision: str, run: _Run, report: Callable[[Stage], None]) -> Artifact:
    spec, folder = run.spec, artifact_folder(run.out, run.spec, converter, precision)
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise RequestError(f"{folder} exists and is no artifact of this SDK; move it away or give another --out")
    calibrated = run.calibrated if precision in QUANTIZED else None
    started = time.monotonic()
    with replacing(folder) as fresh:
        fresh.mkdir()
        file = fresh / f"{spec.model}{converter.suffix}"
        quantization = calibrated.quantization if calibrated else None
        job = Job(converter.format, converter.backend, precision, run.weights, file, quantization)
        converted = run_in_child(convert_in_child, job, on_event=report)
        sha256, size = hash_and_size(file)
        inspection = msgspec.structs.asdict(converted.inspection)
        del inspection["spec"]
        manifest = Manifest(
            file=file.name,
            format=converter.format,
            precision=precision,
            target=converter.target,
            bytes=size,
            sha256=sha256,
            spec=spec,
            config_sha256=spec.config_sha256,
            origin=run.origin,
            tools=converted.tools,
            seconds=round(time.monotonic() - started, 2),
            peak_memory_bytes=converted.peak_memory_bytes,
            warnings=converted.warnings,
            quantization=calibrated.record() if calibrated else None,
            **inspection,
        )
        least = run.min_agreement(precision)
        if calibrated and least is not None:
            report("judge")
            judged = Artifact(file, manifest)
            judgment = judge_by_task(judged, calibrated.held_out, calibrated.reference, min_agreement=least)
            manifest = msgspec.structs.replace(manifest, quantization=calibrated.record(judgment))
        write_reference(fresh, run.reference)
        write_manifest(fresh, manifest)
    return _set_aside_if_rejected(open_artifact(folder))


def _set_aside_if_rejected(artifact: Artifact) -> Artifact:
    """Give the folder of an artifact that does its task too badly the name `.rejected`; an earlier one goes."""
    folder = artifact.path.parent
    aside = folder.with_name(folder.name + REJECTED)
    shutil.rmtree(aside, ignore_errors=True)
    if not artifact.rejected:
        return artifact
    folder.rename(aside)
    return open_artifact(aside)


def _up_to_date(converter: Converter, precision: str, run: _Run) -> Artifact | None:
    """The artifact that is already there, when converting again would make the same one."""
    folder = artifact_folder(run.out, run.spec, converter, precision)
    if not folder.exists():
        return None
    try:
        artifact = open_artifact(folder)
        stored = artifact.reference()
    except ArtifactError:
        return None
    manifest, calibrated = artifact.manifest, run.calibrated if precision in QUANTIZED else None
    same = (
        manifest.spec == run.spec
        and manifest.origin == run.origin
        and manifest.tools == toolchain_versions(converter)
        and (calibrated is None or calibrated.made(manifest.quantization))
        and _held_to(manifest.quantization) == run.min_agreement(precision)
        and stored.logits.shape == run.reference.logits.shape
        and bool((stored.logits == run.reference.logits).all())
        and artifact.is_unchanged()
    )
    return artifact if same else None


def _held_to(record: QuantizationRecord | None) -> float | None:
    return record.judgment.min_agreement if record and record.judgment else None
