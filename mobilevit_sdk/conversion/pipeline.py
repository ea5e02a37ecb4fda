"""One checkpoint to all phone formats, side by side in child processes, each verified before it counts as done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mobilevit_sdk.arguments import names
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.artifacts.origin import origin_of
from mobilevit_sdk.artifacts.reference import reference_of_sizes
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.checkpoints.load import CheckpointLike, as_checkpoint
from mobilevit_sdk.conversion.extras import plan_extras
from mobilevit_sdk.conversion.folder import Network, find_up_to_date, folder_of, write_artifact_folder
from mobilevit_sdk.conversion.plan import Conversion, plan_conversions, plan_notes, plan_sizes
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.data.cases import builtin_cases
from mobilevit_sdk.errors import MobileViTError
from mobilevit_sdk.files import require_place
from mobilevit_sdk.formats.extras import ExtraKind
from mobilevit_sdk.formats.quantization import QUANTIZED, QuantizationRecipe, as_recipe
from mobilevit_sdk.parity import THRESHOLDS, Threshold, Verdict, verify
from mobilevit_sdk.progress import Progress, Step, silent, summed
from mobilevit_sdk.quantization.calibrated import calibration_for


@dataclass(frozen=True)
class Failure:
    """A conversion that made no artifact; `exit_code` is that of the command line for its kind of error."""

    format: str
    precision: str
    error: str
    exit_code: int


@dataclass(frozen=True)
class ConvertResult:
    """Artifacts and verdicts in the order of the formats, and the conversions that failed.

    `notes` say what of the request had no effect, such as a precision that one of several formats lacks.
    """

    model: str
    artifacts: list[Artifact]
    verdicts: list[Verdict]
    failures: list[Failure]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The document of `convert --json`."""
        return {
            "model": self.model,
            "artifacts": [
                {
                    "path": str(artifact.path),
                    "format": artifact.manifest.format,
                    "precision": artifact.manifest.precision,
                    "bytes": artifact.manifest.bytes,
                    "seconds": artifact.manifest.seconds,
                    "peak_memory_bytes": artifact.manifest.peak_memory_bytes,
                    "max_rank": artifact.manifest.max_rank,
                    "delegates": artifact.manifest.delegates,
                    "backend": artifact.manifest.backend,
                    "undelegated_ops": artifact.manifest.undelegated_ops,
                    "warnings": list(artifact.manifest.warnings),
                    "quantization": msgspec.to_builtins(artifact.manifest.quantization),
                    "extras": msgspec.to_builtins(artifact.manifest.extras or ()),
                    "verdicts": [each.to_json() for each in self.verdicts if each.artifact == str(artifact.path)],
                }
                for artifact in self.artifacts
            ],
            "failures": msgspec.to_builtins(self.failures),
            "notes": self.notes,
        }


def convert(
    checkpoint: CheckpointLike = None,
    *,
    out: Path | str,
    formats: str | Sequence[str] | None = None,
    precisions: str | Sequence[str] | None = None,
    backend: str | None = None,
    recipe: QuantizationRecipe | Path | str | None = None,
    calibration: ImageDataset | Path | str | None = None,
    bundle: bool = False,
    etrecord: bool = False,
    check: bool = True,
    force: bool = False,
    thresholds: Mapping[str, Threshold] | None = None,
    progress: Progress = silent,
) -> ConvertResult:
    """Convert a checkpoint to `formats`, by default all that have a converter installed, and verify every file.

    `checkpoint` is one that was loaded, a file or `hf-hub:org/name`; by default the one that ships with the package.
    `formats` and `precisions` are one name or several, and `recipe` may be the file that `quantize` wrote.

    Each artifact becomes a folder `<model>-<format>-<precision>` in `out`, replaced as a whole or not at all; one that
    was made from the same weights, spec and tools is kept unless `force`. `precisions` and `backend` default to those
    of each format; a backend other than the default is part of the folder's name, and a format without a choice of
    backends refuses one. `thresholds` holds what each precision must reach, by default
    `parity.THRESHOLDS`; without `check`, no file is run.

    For integer precisions, `recipe` says what is quantized. Half of the images of `calibration`, a folder or a Parquet
    file, give the ranges; the others judge the artifact by its task. Without `calibration`, images are synthesized from
    the statistics of the network's BatchNorms, which takes minutes. An artifact that changes the class of too many
    images is rejected: its folder gets the suffix `.rejected`.

    `bundle` writes, beside each .pte file, a .bpte file of it and the reference vectors, which ExecuTorch's runtime
    checks wherever it runs, here first; `etrecord` a record of its lowering, for ExecuTorch's Inspector.

    `progress` is called with the steps of each conversion, with its name as the task, and of the calibration. A format
    whose toolchain fails does not stop the others: see `failures`. Raises RequestError for unknown formats, backends
    and precisions, for a folder that cannot be written and for images that cannot be read, and ToolchainError for a
    toolchain that is not installed.
    """
    require_place(Path(out))
    conversions = plan_conversions(names(formats), names(precisions), backend)
    images = None if calibration is None else open_dataset(calibration)
    notes = plan_notes(conversions, names(precisions), calibration=calibration, recipe=recipe)
    checkpoint = as_checkpoint(checkpoint)
    if checkpoint.spec.image_sizes:
        conversions, left_out = plan_sizes(conversions, names(formats))
        notes += left_out
    asked: dict[ExtraKind, bool] = {"bundle": bundle, "etrecord": etrecord}
    extras = tuple(kind for kind, wanted in asked.items() if wanted)
    notes += plan_extras(conversions, extras, checkpoint.spec)
    at_once = max(3, os.cpu_count() or 1)
    with opened_network(
        checkpoint,
        conversions,
        out=Path(out),
        recipe=as_recipe(recipe),
        calibration=images,
        thresholds=thresholds or THRESHOLDS,
        at_once=at_once,
        progress=progress,
        extras=extras,
    ) as network:

        def work(conversion: Conversion) -> tuple[Artifact, list[Verdict]] | Failure:
            name = conversion.name
            try:
                artifact, kept = make_artifact(conversion, network, Path(out), force=force, progress=progress)
                progress(Step("verify", task=name))
                verdicts = []
                if check and not artifact.rejected:
                    steps = summed("verify", name, progress)
                    verdicts = verify([artifact], thresholds=network.thresholds, progress=steps)
            except MobileViTError as error:
                progress(Step("failed", task=name, status="failed"))
                return Failure(conversion.converter.format, conversion.precision, str(error), error.exit_code)
            if artifact.rejected:
                progress(Step("rejected", task=name, status="failed"))
            else:
                progress(Step("up to date" if kept else "done", task=name, status="done"))
            return artifact, verdicts

        with ThreadPoolExecutor(max_workers=at_once) as pool:
            outcomes = list(pool.map(work, conversions))
    done = [outcome for outcome in outcomes if not isinstance(outcome, Failure)]
    return ConvertResult(
        model=checkpoint.spec.model,
        artifacts=[artifact for artifact, _ in done],
        verdicts=[verdict for _, verdicts in done for verdict in verdicts],
        failures=[outcome for outcome in outcomes if isinstance(outcome, Failure)],
        notes=notes,
    )


@contextmanager
def opened_network(
    checkpoint: Checkpoint,
    conversions: Sequence[Conversion],
    *,
    out: Path,
    recipe: QuantizationRecipe,
    calibration: ImageDataset | None,
    thresholds: Mapping[str, Threshold],
    at_once: int,
    progress: Progress,
    extras: tuple[ExtraKind, ...] = (),
) -> Iterator[Network]:
    """What these conversions of a checkpoint to `out` share, `at_once` of them at a time; good within the context.

    PyTorch's answers, the weights in a file and, for integer precisions, the calibration: each is made once. Raises
    RequestError for images that cannot be read.
    """
    origin = origin_of(checkpoint, out)  # hashes the file now, while it is the one that was loaded
    for conversion in conversions:
        progress(Step("waiting", task=conversion.name, status="waiting"))
    spec = checkpoint.spec
    reference = reference_of_sizes(checkpoint.networks(), spec, builtin_cases, progress)
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as scratch:
        weights = Path(scratch) / "weights.safetensors"
        save_checkpoint(*checkpoint.own, weights)
        quantizing = any(conversion.precision in QUANTIZED for conversion in conversions)
        calibrated = calibration_for(checkpoint, recipe, calibration, Path(scratch), progress) if quantizing else None
        # Side by side, each with all cores, they would mostly wait for one another.
        threads = max(1, (os.cpu_count() or 1) // min(len(conversions), at_once))
        stored = checkpoint.own[1] if spec.image_sizes else None
        yield Network(spec, origin, reference, weights, calibrated, thresholds, threads, stored, extras)


def make_artifact(
    conversion: Conversion, network: Network, out: Path, *, force: bool = False, progress: Progress
) -> tuple[Artifact, bool]:
    """The artifact of a conversion in `out`, and whether it is the one that was there, being up to date.

    Raises RequestError and ToolchainError as `write_artifact_folder`.
    """
    folder = folder_of(conversion, network, out)
    kept = None if force else find_up_to_date(conversion, network, folder)
    return kept or write_artifact_folder(conversion, network, folder, progress), kept is not None
