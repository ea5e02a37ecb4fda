"""A comparison from start to end: what `mobilevit compare` runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mobilevit_sdk.arguments import names
from mobilevit_sdk.artifacts.reference import check_answers
from mobilevit_sdk.bench import usable_cores
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, network_sha256
from mobilevit_sdk.checkpoints.features import classifier_of
from mobilevit_sdk.checkpoints.load import CheckpointLike, as_checkpoint
from mobilevit_sdk.checkpoints.preparation import AS_STATED, Preparation
from mobilevit_sdk.comparison.file import Compared, Subject, accuracy, compare_file
from mobilevit_sdk.comparison.images import LabeledImages, refuse_overlap
from mobilevit_sdk.comparison.plan import plan_comparison
from mobilevit_sdk.comparison.record import Comparison, FileRow, Floors
from mobilevit_sdk.comparison.report import write_report
from mobilevit_sdk.comparison.store import Store
from mobilevit_sdk.comparison.timing import Timing, time_files
from mobilevit_sdk.conversion.pipeline import opened_network
from mobilevit_sdk.conversion.plan import Conversion
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.data.calibration import split_images
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.measure import network_predictor, values_of
from mobilevit_sdk.files import portable, require_place
from mobilevit_sdk.formats.quantization import QUANTIZED, QuantizationRecipe, as_recipe
from mobilevit_sdk.parity import THRESHOLDS, Threshold
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.spec import LOGITS
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.text import count

LIMIT = 500  # images


@dataclass(frozen=True, kw_only=True)
class RowFound(Step):
    """A file has been converted, verified and evaluated; it is not yet timed."""

    row: FileRow


def compare_formats(
    checkpoint: CheckpointLike = None,
    *,
    data: ImageDataset | Path | str,
    out: Path | str,
    formats: str | Sequence[str] | None = None,
    precisions: str | Sequence[str] | None = None,
    backends: str | Sequence[str] | None = None,
    limit: int | None = LIMIT,
    task: str | None = None,
    calibration: ImageDataset | Path | str | None = None,
    recipe: QuantizationRecipe | Path | str | None = None,
    max_drop: float | None = None,
    min_top1: float | None = None,
    timed: bool = True,
    threads: int = 1,
    rounds: int = 20,
    thresholds: Mapping[str, Threshold] | None = None,
    preparation: Preparation | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Make every file that a checkpoint can become, and compare them: verdict, size, accuracy, latency.

    `checkpoint` is one that was loaded, a file or `hf-hub:org/name`; by default the one that ships with the package.
    `formats`, `precisions` and `backends` (of which "default" is each format's own) leave out all others; by default
    everything that is installed is compared. Each file is converted and verified as `convert` does, answers the labeled
    images of `data`, at most `limit` of them, spread evenly, and, where its runtime can be timed, is timed together
    with PyTorch in interleaved `rounds` on so many `threads`. One that fails stops no other: see `FileRow.status`.

    Of a checkpoint with several outputs, every output is verified and the worst decides; `data` are images of `task`,
    by default of the network's own classes, and of it are the best classes and top-1.

    Integer precisions take `calibration` and `recipe` as `convert` does; images that are also in `data` are refused.
    `max_drop`, in points of top-1 below PyTorch's, and `min_top1`, in percent, are floors for every file that runs.

    `out` receives artifacts/, comparison.json, comparison.md, report.html, and steps/, from which an interrupted or
    repeated call goes on: what is unchanged is not done again. `progress` hears of each file in a RowFound. Raises
    RequestError for unknown names, for data that do not fit the model, and where `out` cannot be written.
    """
    plan = plan_comparison(names(formats), names(precisions), names(backends))
    if not 1 <= threads <= usable_cores():
        raise RequestError(f"`threads` takes a number from 1 to {usable_cores()}, not {threads}")
    out = Path(out).resolve()
    require_place(out)
    loaded = as_checkpoint(checkpoint, preparation or AS_STATED)
    loaded.spec.require_scores("a comparison")
    asked, dataset = task_of(loaded.spec.of_output(task)), open_dataset(data, labeled=True)
    dataset = dataset.sample(limit or len(dataset)).checked(progress)
    images = LabeledImages(asked.match(dataset), loaded.spec.preprocessing, values_of(loaded.spec, task))
    given = _to_calibrate_with(calibration, plan, images)
    store, network_hash = Store(out / "steps"), network_sha256(loaded.model, loaded.spec)
    reference = _reference(classifier_of(loaded, task), network_hash, task, images, store, progress)
    with opened_network(
        loaded,
        plan,
        out=out,
        recipe=as_recipe(recipe),
        calibration=given,
        thresholds=thresholds or THRESHOLDS,
        at_once=1,
        progress=_of("prepare", progress),
    ) as network:
        subject = Subject(network, network_hash, images, reference, Floors(max_drop, min_top1), out, store)
        compared = _compare_files(plan, subject, progress)
    timing = Timing()
    if timed:
        timing = time_files(compared, loaded, store, threads=threads, rounds=rounds, progress=_of("timing", progress))
    known = data.notes if isinstance(data, ImageDataset) else ()
    notes = (
        *loaded.notes,
        *(note for note in dataset.notes if note not in known),
        *asked.notes(dataset),
        *_without_effect(plan, calibration, recipe),
    )
    comparison = _record(loaded, subject, compared, timing, threads, task, notes)
    write_report(comparison, out)
    return comparison


def _to_calibrate_with(
    calibration: ImageDataset | Path | str | None, plan: Sequence[Conversion], images: LabeledImages
) -> ImageDataset | None:
    """The images for ranges where they are needed. Raises RequestError for too few and for some of `images`."""
    if calibration is None or not _quantizes(plan):
        return None
    given = open_dataset(calibration)
    refuse_overlap(given, images)
    split_images(given, images.preprocessing)  # now, and not after the first hour: are they enough, and whole?
    return given


def _reference(
    asked: Checkpoint, network_hash: str, task: str | None, images: LabeledImages, store: Store, progress: Progress
) -> np.ndarray:
    """PyTorch's scores, float32 [images, num_classes]. Raises RequestError where they are not finite."""
    check_answers(asked.model, images.preprocessing)
    scores = store.scores(
        "pytorch.scores",
        [network_hash, task, images.sha256],
        (len(images), asked.spec.num_classes),
        lambda: images.answers(network_predictor(asked.model, asked.spec), _of("pytorch", progress)),
    )
    if not np.isfinite(scores).all():
        source = images.dataset.source
        raise RequestError(f"PyTorch answers images of {source} with NaN or infinity: nothing can be compared")
    return scores


def _compare_files(plan: Sequence[Conversion], subject: Subject, progress: Progress) -> list[Compared]:
    compared = []
    for done, conversion in enumerate(plan):
        progress(Step("comparing", done, len(plan), detail=f"{done} of {len(plan)} files"))
        found = compare_file(conversion, subject, progress)
        compared.append(found)
        progress(RowFound("compared", 1, 1, task=conversion.name, row=found.row))
    progress(Step("comparing", len(plan), len(plan)))
    return compared


def _record(
    loaded: Checkpoint,
    subject: Subject,
    compared: Sequence[Compared],
    timing: Timing,
    threads: int,
    task: str | None,
    notes: tuple[str, ...],
) -> Comparison:
    top1, top5 = accuracy(subject.reference, subject.images.labels)
    return Comparison(
        model=loaded.spec.model,
        checkpoint=portable(loaded.source),
        sha256=loaded.origin.sha256,
        data=subject.images.dataset.source.name,
        images=len(subject.images),
        outputs=tuple(output.name for output in loaded.spec.outputs),
        task=(task or LOGITS) if len(loaded.spec.outputs) > 1 else None,
        top1=top1,
        top5=top5,
        median_ms=timing.pytorch.median_ms if timing.pytorch else None,
        p90_ms=timing.pytorch.p90_ms if timing.pytorch else None,
        rows=tuple(timing.added(each) for each in compared),
        floors=subject.floors,
        calibration=_calibrated_with(compared),
        threads=threads,
        machine=timing.machine,
        sdk=version("mobilevit-sdk"),
        when=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        notes=notes,
    )


def _of(task: str, progress: Progress) -> Progress:
    def tell(step: Step) -> None:
        if step.status == "running":  # and not what waits for it
            progress(dataclasses.replace(step, task=task))

    return tell


def _quantizes(plan: Sequence[Conversion]) -> bool:
    return any(conversion.precision in QUANTIZED for conversion in plan)


def _without_effect(plan: Sequence[Conversion], calibration: object, recipe: object) -> list[str]:
    given = [name for name, value in (("calibration", calibration), ("recipe", recipe)) if value is not None]
    if _quantizes(plan):
        return []
    return [f"`{name}` is for integer precisions and has no effect here" for name in given]


def _calibrated_with(compared: Sequence[Compared]) -> str | None:
    """In words, what the ranges of integers were found with."""
    records = [each.artifact.manifest.quantization for each in compared if each.artifact]
    record = next((record for record in records if record), None)
    if record is None:
        return None
    made = "synthesized from the network itself" if record.data_free else f"of {Path(record.images).name}"
    return f"{count(record.calibrated_with, 'image')} {made}"
