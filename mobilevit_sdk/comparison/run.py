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
from mobilevit_sdk.checkpoints.checkpoint import network_sha256
from mobilevit_sdk.checkpoints.load import CheckpointLike, as_checkpoint
from mobilevit_sdk.checkpoints.preparation import AS_STATED, Preparation
from mobilevit_sdk.comparison.file import Compared, Subject, accuracy, compare_file
from mobilevit_sdk.comparison.images import LabeledImages, refuse_overlap
from mobilevit_sdk.comparison.plan import plan_comparison
from mobilevit_sdk.comparison.record import Comparison, FileRow, Floors
from mobilevit_sdk.comparison.report import write_report
from mobilevit_sdk.comparison.store import Store
from mobilevit_sdk.comparison.timing import Timing, time_files
from mobilevit_sdk.conversion.plan import Conversion
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.data.calibration import split_images
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.accuracy import class_order_notes, match_answers, yes_notes
from mobilevit_sdk.evaluation.measure import network_predictor
from mobilevit_sdk.files import portable
from mobilevit_sdk.formats.quantization import QUANTIZED, QuantizationRecipe, as_recipe
from mobilevit_sdk.parity import THRESHOLDS, Threshold
from mobilevit_sdk.progress import Progress, Step, silent
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
    loaded = as_checkpoint(checkpoint, preparation or AS_STATED)
    spec = loaded.spec
    spec.require_scores("a comparison")
    dataset = open_dataset(data, labeled=True)
    dataset = dataset.sample(limit or len(dataset)).checked(progress)
    images = LabeledImages(match_answers(dataset, spec), spec.preprocessing)
    quantizing = any(conversion.precision in QUANTIZED for conversion in plan)
    given = None if calibration is None or not quantizing else open_dataset(calibration)
    if given is not None:
        refuse_overlap(given, images)
        split_images(given, spec.preprocessing)  # now, and not after the first hour: are they enough, and whole?
    check_answers(loaded.model, spec.preprocessing)
    network = network_sha256(loaded.model, spec)
    store = Store(out / "steps")
    reference = store.scores(
        "pytorch.scores",
        [network, images.sha256],
        (len(images), spec.num_classes),
        lambda: images.answers(network_predictor(loaded.model, spec), _of("pytorch", progress)),
    )
    if not np.isfinite(reference).all():
        raise RequestError(f"PyTorch answers images of {dataset.source} with NaN or infinity: nothing can be compared")
    floors = Floors(max_drop, min_top1)
    subject = Subject(
        loaded,
        network,
        images,
        reference,
        given,
        as_recipe(recipe),
        thresholds or THRESHOLDS,
        floors,
        out,
        store,
    )
    compared = []
    for done, conversion in enumerate(plan):
        progress(Step("comparing", done, len(plan), detail=f"{done} of {len(plan)} files"))
        found = compare_file(conversion, subject, progress)
        compared.append(found)
        progress(RowFound("compared", 1, 1, task=conversion.name, row=found.row))
    progress(Step("comparing", len(plan), len(plan)))
    timing = Timing()
    if timed:
        timing = time_files(compared, loaded, store, threads=threads, rounds=rounds, progress=_of("timing", progress))
    known = data.notes if isinstance(data, ImageDataset) else ()
    top1, top5 = accuracy(reference, images.labels)
    comparison = Comparison(
        model=spec.model,
        checkpoint=portable(loaded.source),
        sha256=loaded.origin.sha256,
        data=dataset.source.name,
        images=len(images),
        top1=top1,
        top5=top5,
        median_ms=timing.pytorch.median_ms if timing.pytorch else None,
        p90_ms=timing.pytorch.p90_ms if timing.pytorch else None,
        rows=tuple(timing.added(each) for each in compared),
        floors=floors,
        calibration=_calibrated_with(compared),
        threads=threads,
        machine=timing.machine,
        sdk=version("mobilevit-sdk"),
        when=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        notes=(
            *loaded.notes,
            *(note for note in dataset.notes if note not in known),
            *class_order_notes(dataset, spec),
            *yes_notes(dataset, spec),
            *_notes(plan, calibration, recipe),
        ),
    )
    write_report(comparison, out)
    return comparison


def _of(task: str, progress: Progress) -> Progress:
    return lambda step: progress(dataclasses.replace(step, task=task))


def _notes(plan: Sequence[Conversion], calibration: object, recipe: object) -> list[str]:
    given = [name for name, value in (("calibration", calibration), ("recipe", recipe)) if value is not None]
    if any(conversion.precision in QUANTIZED for conversion in plan):
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
