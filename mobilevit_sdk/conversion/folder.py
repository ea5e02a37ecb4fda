"""One artifact's folder: written whole and renamed once, kept when it is up to date, set aside when it is rejected."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mobilevit_sdk.artifacts.artifact import MANIFEST, REJECTED, Artifact, Manifest, open_artifact, write_manifest
from mobilevit_sdk.artifacts.reference import Reference, write_reference
from mobilevit_sdk.conversion.extras import SUFFIXES, extras_of, write_extras
from mobilevit_sdk.conversion.job import Job, run_job
from mobilevit_sdk.conversion.plan import Conversion
from mobilevit_sdk.errors import ArtifactError, RequestError
from mobilevit_sdk.files import hash_and_size, replacing
from mobilevit_sdk.formats.app_input import app_input_of
from mobilevit_sdk.formats.converter import label, toolchain_versions
from mobilevit_sdk.formats.entries import manifest_entries
from mobilevit_sdk.formats.extras import ExtraKind
from mobilevit_sdk.formats.quantization import QUANTIZED
from mobilevit_sdk.parity import THRESHOLDS, Threshold
from mobilevit_sdk.processes.child import run_in_child
from mobilevit_sdk.progress import Progress, Step, summed
from mobilevit_sdk.quantization.calibrated import Calibrated
from mobilevit_sdk.quantization.judgment import judge_by_task
from mobilevit_sdk.spec import ModelSpec, Origin


@dataclass(frozen=True)
class Network:
    """What all conversions of one call share: a network with its answers, and what its files must reach."""

    spec: ModelSpec
    origin: Origin
    reference: Reference
    weights: Path  # as `save_checkpoint` wrote them
    calibrated: Calibrated | None  # there for integer precisions
    thresholds: Mapping[str, Threshold]
    threads: int = 1  # of each conversion
    stored: ModelSpec | None = None  # of the weights, where `spec` has several image sizes
    extras: tuple[ExtraKind, ...] = ()  # to write beside the files of formats that have them

    def task_threshold(self, precision: str) -> Threshold | None:
        """What an artifact must reach on the task; None where there is none: for random weights, for features alone."""
        if self.calibrated is None or self.origin.random_weights_seed is not None:
            return None
        if not self.spec.returns_scores and not self.spec.num_queries:
            return None
        threshold = self.thresholds.get(precision, THRESHOLDS[precision])
        return None if threshold.task_agreement is None else threshold


def folder_of(conversion: Conversion, network: Network, out: Path) -> Path:
    """Where the artifact of a conversion belongs: `<model>-<format>-<precision>` in `out`."""
    return out / f"{network.spec.model}-{label(conversion.converter)}-{conversion.precision}"


def write_artifact_folder(conversion: Conversion, network: Network, folder: Path, progress: Progress) -> Artifact:
    """Convert in a child process, judge integers by the task, and put manifest and reference vectors beside the file.

    A rejected artifact goes to the folder's name with the suffix `.rejected`. Raises RequestError where `folder` is
    something else, and ToolchainError where the conversion fails.
    """
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise RequestError(f"{folder} exists and is not an artifact of this SDK; move it away or give another `out`")
    converter, precision, spec = conversion.converter, conversion.precision, network.spec
    calibrated = network.calibrated if precision in QUANTIZED else None
    started = time.monotonic()
    with replacing(folder) as fresh:
        fresh.mkdir()
        file = fresh / f"{spec.model}{converter.suffix}"
        quantization = calibrated.quantization if calibrated else None
        kinds = extras_of(conversion, network.extras, spec)
        job = Job(
            spec,
            network.weights,
            converter.format,
            converter.backend,
            precision,
            file,
            quantization,
            stored=network.stored,
            record=file.with_suffix(SUFFIXES["etrecord"]) if "etrecord" in kinds else None,
        )
        progress(Step("import PyTorch", task=conversion.name))
        converted = run_in_child(
            run_job,
            job,
            on_event=lambda step: progress(dataclasses.replace(step, task=conversion.name)),
            threads=network.threads,
        )
        sha256, size = hash_and_size(file)
        inspection = msgspec.structs.asdict(converted.file.inspection)
        del inspection["spec"], inspection["metadata"], inspection["entries"]
        entries = manifest_entries(converted.file.inspection, spec)
        threshold = network.thresholds.get(precision, THRESHOLDS[precision])
        extras, notes = write_extras(conversion, kinds, file, network.reference, threshold)
        manifest = Manifest(
            schema=2 if entries else 1,
            entries=entries,
            file=file.name,
            format=converter.format,
            precision=precision,
            target=converter.target,
            bytes=size,
            sha256=sha256,
            spec=spec,
            config_sha256=spec.config_sha256,
            origin=network.origin,
            tools=converted.tools,
            seconds=round(time.monotonic() - started, 2),
            peak_memory_bytes=converted.peak_memory_bytes,
            warnings=(*converted.file.warnings, *notes),
            extras=extras or msgspec.UNSET,
            quantization=calibrated.record(converted.file.smoothing) if calibrated else None,
            app_input=app_input_of(converted.file.inspection.inputs, spec.preprocessing),
            **inspection,
        )
        of_task = network.task_threshold(precision)
        if manifest.quantization and calibrated and of_task is not None:
            progress(Step("judge", task=conversion.name))
            judgment = judge_by_task(
                Artifact(file, manifest),
                calibrated.held_out,
                calibrated.reference,
                threshold=of_task,
                progress=summed("judge", conversion.name, progress),
            )
            record = msgspec.structs.replace(manifest.quantization, judgment=judgment)
            manifest = msgspec.structs.replace(manifest, quantization=record)
        write_reference(fresh, network.reference, spec)
        write_manifest(fresh, manifest)
    return _set_aside_if_rejected(open_artifact(folder))


def _set_aside_if_rejected(artifact: Artifact) -> Artifact:
    """Rename the folder of an artifact that does its task too badly; one that was set aside earlier is deleted."""
    folder = artifact.path.parent
    aside = folder.with_name(folder.name + REJECTED)
    shutil.rmtree(aside, ignore_errors=True)
    if not artifact.rejected:
        return artifact
    folder.rename(aside)
    return open_artifact(aside)


def find_up_to_date(conversion: Conversion, network: Network, folder: Path) -> Artifact | None:
    """The artifact in `folder`, or set aside from it, when converting again would make the same one."""
    aside = folder.with_name(folder.name + REJECTED)
    return _up_to_date(conversion, network, folder) or _up_to_date(conversion, network, aside)


def _up_to_date(conversion: Conversion, network: Network, folder: Path) -> Artifact | None:
    if not folder.exists():
        return None
    try:
        artifact = open_artifact(folder)
        stored = artifact.reference()
    except ArtifactError:
        return None
    manifest = artifact.manifest
    calibrated = network.calibrated if conversion.precision in QUANTIZED else None
    judgment = manifest.quantization.judgment if manifest.quantization else None
    threshold = network.task_threshold(conversion.precision)
    bars = (threshold.task_agreement, threshold.task_sqnr_db) if threshold else None
    same = (
        manifest.spec == network.spec
        and manifest.origin == network.origin
        and manifest.tools == toolchain_versions(conversion.converter)
        and (calibrated is None or calibrated.made(manifest.quantization))
        and ((judgment.min_agreement, judgment.min_sqnr_db) if judgment else None) == bars
        and stored.answers.shape == network.reference.answers.shape
        and bool((stored.answers == network.reference.answers).all())
        and set(extras_of(conversion, network.extras, network.spec)) <= {each.kind for each in manifest.extras or ()}
        and artifact.is_unchanged()
    )
    return artifact if same else None
