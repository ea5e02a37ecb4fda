"""One checkpoint to all phone formats, side by side in processes of their own, each proven before it is called done."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec

from mobilevit_sdk.artifact import (
    MANIFEST,
    Artifact,
    Manifest,
    Reference,
    open_artifact,
    write_manifest,
    write_reference,
)
from mobilevit_sdk.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mobilevit_sdk.child import emit, peak_memory_bytes, run_in_child
from mobilevit_sdk.converter import Converter, Inspection, converters, find_converter, label
from mobilevit_sdk.deployment import PhoneGraph, audit, deploy
from mobilevit_sdk.errors import ArtifactError, MobileViTError, RequestError, ToolchainError, nearest
from mobilevit_sdk.files import hash_and_size, replacing
from mobilevit_sdk.parity import THRESHOLDS, Threshold, Verdict, builtin_cases, reference_of, verify
from mobilevit_sdk.quantization import Quantization
from mobilevit_sdk.registry import is_ours
from mobilevit_sdk.spec import ModelSpec, Origin

Stage = Literal["waiting", "deploy", "convert", "inspect", "verify", "done", "up to date", "failed"]


@dataclass(frozen=True)
class ConvertProgress:
    """One conversion has reached a stage; `seconds` since all of them began."""

    format: str
    precision: str
    stage: Stage
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A conversion that did not end in an artefact; `exit_code` is the contract's for its kind of error."""

    format: str
    precision: str
    error: str
    exit_code: int


@dataclass(frozen=True)
class ConvertResult:
    """Artefacts and verdicts in the order of the formats; what failed stands apart."""

    model: str
    artifacts: list[Artifact]
    verdicts: list[Verdict]
    failures: list[Failure]


@dataclass(frozen=True)
class Job:
    """What one child converts."""

    format: str
    backend: str | None
    precision: str
    weights: Path
    out: Path  # the file to write
    quantization: Quantization | None = None


@dataclass(frozen=True)
class Converted:
    """What a child tells of the file that it wrote."""

    inspection: Inspection
    tools: dict[str, str]
    peak_memory_bytes: int
    warnings: tuple[str, ...]


def convert(
    checkpoint: Checkpoint,
    *,
    out: Path,
    formats: Sequence[str] = (),
    precisions: Sequence[str] = (),
    backend: str | None = None,
    check: bool = True,
    force: bool = False,
    thresholds: Mapping[str, Threshold] = THRESHOLDS,
    on_progress: Callable[[ConvertProgress], None] = lambda progress: None,
) -> ConvertResult:
    """Convert a checkpoint to `formats` (all that are installed as converters, by default) and verify every file.

    Each artefact becomes a folder `<model>-<format>-<precision>` in `out`, replaced as a whole or not at all; one that
    was made from the same weights, spec and tools is kept as it is unless `force`. `precisions` default to each
    format's own, `backend` to that of each format; a format that leaves no choice refuses one, and another than the
    default stands in the folder's name, behind the format. `thresholds` holds what each precision must reach. A format
    whose toolchain fails does not stop the others: see `failures`. Raises RequestError for unknown formats, backends
    and precisions and a folder that cannot be written, ToolchainError for a toolchain not installed.
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

        def work(pair: tuple[Converter, str]) -> tuple[Artifact, list[Verdict]] | Failure:
            converter, precision = pair
            try:
                artifact = None if force else _up_to_date(converter, precision, checkpoint.spec, origin, reference, out)
                kept = artifact is not None
                if artifact is None:
                    artifact = _convert_one(
                        converter, precision, checkpoint.spec, origin, reference, weights, out, report
                    )
                report(converter, precision, "verify")
                verdicts = verify([artifact], thresholds=thresholds) if check else []
            except MobileViTError as error:
                report(converter, precision, "failed")
                return Failure(converter.format, precision, str(error), error.exit_code)
            report(converter, precision, "up to date" if kept else "done")
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
    known = {precision for converter in chosen for precision in converter.precisions}
    for precision in precisions:
        if precision not in known:
            raise RequestError(f"no chosen format has precision {precision!r}; {nearest(precision, known)}")
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


def _convert_one(
    converter: Converter,
    precision: str,
    spec: ModelSpec,
    origin: Origin,
    reference: Reference,
    weights: Path,
    out: Path,
    report: Callable[[Converter, str, Stage], None],
) -> Artifact:
    folder = artifact_folder(out, spec, converter, precision)
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise RequestError(f"{folder} exists and is no artefact of this SDK; move it away or give another --out")
    started = time.monotonic()
    with replacing(folder) as fresh:
        fresh.mkdir()
        file = fresh / f"{spec.model}{converter.suffix}"
        job = Job(converter.format, converter.backend, precision, weights, file)
        converted = run_in_child(convert_in_child, job, on_event=lambda stage: report(converter, precision, stage))
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
            origin=origin,
            tools=converted.tools,
            seconds=round(time.monotonic() - started, 2),
            peak_memory_bytes=converted.peak_memory_bytes,
            warnings=converted.warnings,
            **inspection,
        )
        write_reference(fresh, reference)
        write_manifest(fresh, manifest)
    return open_artifact(folder)


def convert_in_child(job: Job) -> Converted:
    """`convert_file` for a process that does nothing else."""
    gc.disable()  # the collector would walk through millions of objects, nearly all alive: a sixth of the time
    return convert_file(job)


def convert_file(job: Job) -> Converted:
    """Deploy the checkpoint for the format's target, convert it, read the file back."""
    converter = find_converter(job.format, job.backend)
    emit("deploy")
    checkpoint = load_checkpoint(job.weights)
    graph = deploy(checkpoint.model, converter.target, preprocessing=checkpoint.spec.preprocessing)
    warnings = _audit(graph, converter, checkpoint.spec)
    emit("convert")
    converter.convert(graph, checkpoint.spec, job.precision, job.out, job.quantization)
    emit("inspect")
    inspection = converter.inspect(job.out)
    return Converted(inspection, _tools(converter), peak_memory_bytes(), warnings)


def _audit(graph: PhoneGraph, converter: Converter, spec: ModelSpec) -> tuple[str, ...]:
    """What the target would not take whole, as warnings. Raises ToolchainError where the SDK itself made the graph."""
    findings = audit(graph, converter.target, graph.image_size)
    if not findings:
        return ()
    summary = f"{converter.target} will not take {len(findings)} operators of {spec.model} whole, such as {findings[0]}"
    if is_ours(spec.family):
        raise ToolchainError(f"{summary}; this is a defect of the SDK, please report it")
    return (summary,)


def _tools(converter: Converter) -> dict[str, str]:
    names = ("mobilevit-sdk", "torch", "numpy")
    return {name: version(name) for name in names} | {converter.format: converter.availability().version or ""}


def _up_to_date(
    converter: Converter, precision: str, spec: ModelSpec, origin: Origin, reference: Reference, out: Path
) -> Artifact | None:
    """The artefact that is already there, when converting again would make the same one."""
    folder = artifact_folder(out, spec, converter, precision)
    if not folder.exists():
        return None
    try:
        artifact = open_artifact(folder)
        stored = artifact.reference()
    except ArtifactError:
        return None
    manifest = artifact.manifest
    same = (
        manifest.spec == spec
        and manifest.origin == origin
        and manifest.tools == _tools(converter)
        and stored.logits.shape == reference.logits.shape
        and bool((stored.logits == reference.logits).all())
        and artifact.is_unchanged()
    )
    return artifact if same else None
