"""A pruning from start to end, in a folder of its own: what `mobilevit prune` runs."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from mobilevit_sdk.artifacts.reference import check_answers
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.measure import network_predictor
from mobilevit_sdk.files import portable
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.pruning.finetune import finetune
from mobilevit_sdk.pruning.folder import (
    CHECKPOINT,
    FILES,
    FINETUNED,
    FRONTIER,
    KEPT,
    Report,
    load_pruned,
    save_pruned,
    size_of,
    write_report,
)
from mobilevit_sdk.pruning.images import images_for
from mobilevit_sdk.pruning.latency import measure_table
from mobilevit_sdk.pruning.phone_files import Latencies, measure_files, timed_formats
from mobilevit_sdk.pruning.plots import plot_frontier, plot_kept
from mobilevit_sdk.pruning.pruner import Pruned, prune_network
from mobilevit_sdk.pruning.request import Request
from mobilevit_sdk.pruning.sweep import sweep
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.tasks.quality import deciding

UNMEASURED = "accuracy was not measured: give `test_data`"


def prune_into(
    folder: Path,
    original: Checkpoint,
    request: Request,
    *,
    train: ImageDataset | None = None,
    test: ImageDataset | None = None,
    bench: bool = True,
    with_sweep: bool = False,
    recipe: Recipe | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Report:
    """Prune `original`, measure what that gains and costs, and fine-tune by `recipe`; everything goes into `folder`.

    A pruning that is there already is not made again. `train` holds the images to judge channels and to fine-tune by
    (without it, the report's warnings say what is lost), `test` those to measure top-1, or average precision, on.
    `bench` converts both networks and compares the latencies of their files, and `with_sweep` measures it at other
    shares. `progress` is told what `sweep` and `training.train` tell. Raises RequestError when images are missing, and
    when the folder holds another pruning, and CheckpointError for a network whose answers are not finite.
    """
    if with_sweep and test is None:
        raise RequestError("a sweep measures accuracy: give `test_data`")
    if recipe and (train is None or test is None):
        raise RequestError("fine-tuning needs `data` to train on and `test_data` to measure on")
    check_answers(original.model, original.spec.preprocessing)
    request = request.fitted(original.spec, data_free=train is None)
    pruned = load_pruned(original, request, folder)
    images, table = None, None
    if pruned is None or with_sweep:
        images = images_for(original, request, train, progress)
    if request.measure == "latency" and (pruned is None or with_sweep):
        table = measure_table(original.model, original.spec.preprocessing.image_size, progress)
    if pruned is not None:
        progress(Step(f"{folder / CHECKPOINT} is this pruning already"))
    else:
        found = prune_network(original.model, original.spec, request, images, latency_table=table, progress=progress)
        pruned = save_pruned(found, original, request, folder)
    report = _describe(original, pruned, request, test, progress)
    plot_kept(
        pruned.kept, folder / KEPT, f"{report.model}: what is left of {request.keep:.0%} of its {request.measure}"
    )
    if bench:
        report = replace(report, latency=_latencies(original, folder, progress))
    before = report.before.quality
    if with_sweep and test and before is not None:
        points = sweep(original, request, images, test, latency_table=table, progress=progress)
        report = replace(report, frontier=points)
        line = [(1.0, before), *((point.macs, point.quality or 0.0) for point in points)]
        measured = "top-1" if report.before.ap is None else "average precision"
        title = f"{report.model}, before fine-tuning"
        plot_frontier({request.importance: line}, folder / FRONTIER, title, measured=measured)
    write_report(report, folder)
    if recipe and train and test:
        out = folder / FINETUNED
        tuned = finetune(pruned, original, recipe, train, test, out, device=device, progress=progress)
        report = replace(report, finetuned=tuned)
        write_report(report, folder)
    return report


def _describe(
    original: Checkpoint, pruned: Pruned, request: Request, test: ImageDataset | None, progress: Progress
) -> Report:
    """What is known before anything is converted or trained."""
    sizes = []
    for index, (model, spec) in enumerate(((original.model, original.spec), (pruned.model, pruned.spec))):
        measured = task_of(spec).measure(network_predictor(model, spec), test, progress=progress) if test else None
        quality = deciding(measured) if measured else {}
        sizes.append(size_of(model, pruned.parameters[index], pruned.macs[index], quality))
    return Report(
        model=pruned.spec.model,
        source=portable(original.source),
        request=request,
        before=sizes[0],
        after=sizes[1],
        test_images=len(test) if test else None,
        kept=list(pruned.kept),
        judged_by=pruned.judged_by,
        warnings=[*request.warnings(pruned.spec), *(() if test else (UNMEASURED,))],
    )


def _latencies(original: Checkpoint, folder: Path, progress: Progress) -> Latencies | None:
    """Those of the phone files of both networks, where they can be made and timed here."""
    if not timed_formats():
        return None
    return measure_files(original, load_checkpoint(folder / CHECKPOINT), folder / FILES, progress)
