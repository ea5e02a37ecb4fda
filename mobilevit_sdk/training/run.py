"""A training from start to end: what `mobilevit train` runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.data import ImageDataset, open_dataset, split_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.recipe import LABELS_RECIPE, Recipe, as_recipe
from mobilevit_sdk.spec import ModelSpec, Windows
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.training.feeds import PackedFeed
from mobilevit_sdk.training.labels import StoredLabels, open_labels
from mobilevit_sdk.training.metrics import EpochResult, best_epoch
from mobilevit_sdk.training.progress import TrainingStarted, TrainingStopped
from mobilevit_sdk.training.start import initial_checkpoint, network_for_training, spec_for_training
from mobilevit_sdk.training.teachers import TeacherLike, TeacherNetwork, open_teachers
from mobilevit_sdk.training.tracking import check_tracker, tracked
from mobilevit_sdk.training.trainer import Trainer

DEFAULT_MODEL = "mobilevit_xxs"


@dataclass(frozen=True)
class Trained:
    """A finished training: its checkpoints, and the results of its last and of its best epoch."""

    path: Path  # of model.safetensors, the last epoch's
    best_path: Path  # of best.safetensors
    spec: ModelSpec
    image_size: int  # pixels of the longer side
    result: EpochResult
    best: EpochResult  # by top-1 or AP on the test images, which therefore flatter it
    test_images: int
    resumed: bool


def train(
    data: ImageDataset | Path | str,
    test_data: ImageDataset | Path | str | None,
    out: Path | str,
    *,
    test_share: float | None = None,
    model: str | None = None,
    checkpoint: Checkpoint | Path | str | None = None,
    teacher: TeacherLike | Sequence[TeacherLike] | None = None,
    labels: StoredLabels | Path | str | None = None,
    recipe: Recipe | Path | str | None = None,
    image_size: int | tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
    windows: Windows | None = None,
    device: str = "auto",
    progress: Progress = silent,
    track: str | None = None,
) -> Trained:
    """Train a model from scratch, by default mobilevit_xxs, or fine-tune `checkpoint`; resumable to the bit.

    `data` and `test_data` are labeled images: a folder of class folders, or a Parquet file. With `test_data` None,
    `test_share` of each class of `data` is held out instead (see `split_dataset`). `checkpoint` is loaded, a file or
    `hf-hub:org/name`; a backbone without a classifier gets a fresh head for the classes of `data`. `recipe` may be a
    JSON file. The folder `out` receives model.safetensors (averaged weights; recipe and accuracy in its header),
    best.safetensors, the epoch with the highest top-1 on `test_data`, metrics.jsonl, curves.png and recipe.json. The
    same call continues a training that was killed; one with more epochs goes on by the schedule of all of them, so that
    the learning rate rises again. Top-1 on images that chose an epoch flatters it: they are a validation split, and
    what is published is measured on others. `image_size` is the side of a square input in pixels, or (height, width),
    by default the model's own; `options` are other values in the config of a `model` that starts from nothing, such as
    `num_queries`; `windows` says whether those of a checkpoint's network "keep" their size in positions or "scale" with
    it, by default as in the family's own code. `teacher` is a trained network to learn from as well (arXiv 1503.02531):
    a checkpoint, a TeacherNetwork, what `open_teacher` opens, or several of them, whose probabilities are averaged;
    `labels` is a folder of `store_labels` to learn from instead, with the default recipe LABELS_RECIPE. For
    quantization-aware training (arXiv 1712.05877) take `QAT_RECIPE`, with the checkpoint as its own teacher. `device`
    is "auto", "cpu", "cuda" or "mps". `track`, "tensorboard" or "wandb", writes the loss and the accuracies there as
    well.

    `progress` is called with a TrainingStarted, then a TrainingStep for each optimizer step and an EpochDone for each
    epoch. On Ctrl-C the step in progress is finished, the state saved, and KeyboardInterrupt raised. Raises
    RequestError when the data, the teacher or the recipe does not fit the model, when `out` holds another training,
    when the device is missing, and when the loss is no longer a number.
    """
    check_tracker(track)
    if model and checkpoint is not None:
        raise RequestError("a training starts from a model's name or from a checkpoint: give one of them")
    train_set, test_set = labeled_split(data, test_data, test_share, progress)
    initial = initial_checkpoint(checkpoint, train_set) if isinstance(checkpoint, str | Path) else checkpoint
    spec = spec_for_training(model or DEFAULT_MODEL, initial, train_set, image_size, windows, options)
    return train_network(
        spec,
        initial,
        as_recipe(recipe, task_of(spec).recipe if labels is None else LABELS_RECIPE),
        train_set,
        test_set,
        Path(out),
        teacher=None if teacher is None else open_teachers(teacher),
        labels=open_labels(labels) if isinstance(labels, str | Path) else labels,
        device=device,
        progress=progress,
        track=track,
    )


def labeled_split(
    data: ImageDataset | Path | str,
    test_data: ImageDataset | Path | str | None,
    test_share: float | None,
    progress: Progress,
) -> tuple[ImageDataset, ImageDataset]:
    """Images to train on and images to measure on, all of which can be decoded."""
    if (test_data is None) == (test_share is None):
        raise RequestError("accuracy is measured on `test_data`, or on a `test_share` of `data`: give one of them")
    train_set = open_dataset(data, labeled=True).checked(progress)
    if test_share is not None:
        return split_dataset(train_set, test_share)
    assert test_data is not None
    return train_set, open_dataset(test_data, labeled=True).checked(progress)


def train_network(
    spec: ModelSpec,
    initial: Checkpoint | None,
    recipe: Recipe,
    data: ImageDataset,
    test_data: ImageDataset,
    out: Path,
    *,
    teacher: Checkpoint | TeacherNetwork | Sequence[Checkpoint | TeacherNetwork] | None,
    labels: StoredLabels | None = None,
    device: str,
    progress: Progress,
    track: str | None = None,
) -> Trained:
    """`train` for a spec that fits the data already."""
    chosen = device_named(device)
    network = network_for_training(spec, recipe, initial)
    trainer = Trainer(
        network, spec, recipe, data, test_data, out, device=chosen, teacher=teacher, labels=labels, progress=progress
    )
    return run_training(trainer, "training" if initial is None else "fine-tuning", track=track)


def run_training(trainer: Trainer, what: str, *facts: str, track: str | None = None) -> Trained:
    """Run to the end, or until Ctrl-C, and report what begins: `what`, in words, and `facts` of it.

    `track` is the tracker that hears of it, too: see `tracked`.
    """
    trainer.progress(_started(trainer, what, facts))
    out = trainer.out
    with ExitStack() as stack:
        if track is not None and trainer.world.is_first:
            done, model = trainer.images_done, trainer.spec.model
            told = tracked(trainer.progress, track, model, trainer.recipe, out, done)
            trainer.progress = stack.enter_context(told)
        stack.enter_context(_stop_on_interrupt(trainer))
        result = trainer.run()
    if result is None:
        stopped = f"the state is saved in {out}: the same command continues from it"
        trainer.progress(TrainingStopped("stopped", detail=stopped))
        raise KeyboardInterrupt
    return Trained(
        path=out / "model.safetensors",
        best_path=out / "best.safetensors",
        spec=trainer.spec,
        image_size=trainer.image_size,
        result=result,
        best=best_epoch(trainer.history()),
        test_images=len(trainer.test),
        resumed=trainer.resumed,
    )


def device_named(name: str) -> torch.device:
    """A device that is here: "auto" is the first of cuda, mps and cpu. Raises RequestError."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, works in available.items() if works)
    if not available.get(name):
        raise RequestError(f"torch {torch.__version__} finds no {name} device here; give auto or cpu as `device`")
    return torch.device(name)


def _started(trainer: Trainer, what: str, facts: Sequence[str]) -> TrainingStarted:
    spec, recipe = trainer.spec, trainer.recipe
    facts = [
        *facts,
        f"{spec.num_classes} classes",
        f"{len(trainer.feed.dataset):,} images at {_sides(*spec.preprocessing.image_size)} px",
        f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}",
        f"{trainer.device.type} {trainer.precision.used}",
        *([f"{trainer.world.size} processes"] if trainer.world.size > 1 else ()),
    ]
    if isinstance(trainer.feed, PackedFeed):
        (low, high), packing = trainer.feed.sides, trainer.feed.packing
        facts.append(f"packed at {low:g} to {high:g} px in {trainer.feed.sequence} tokens, {packing.drop:.0%} dropped")
    if "window_sizes" in spec.config:
        facts.append(f"windows of {', '.join(map(str, spec.config['window_sizes']))}")
    if trainer.teacher and recipe.distillation:
        how = recipe.distillation
        last = "" if how.until == 1 else f" for the first {how.until:.0%}"
        layers = f" and {len(how.hidden)} of its layers" if how.hidden else ""
        facts.append(f"{how.kind} labels of {trainer.teacher.name}{layers}{last}")
    if trainer.labels:
        facts.append(f"the {trainer.labels.manifest.top_k} stored labels of {trainer.labels.name}")
    if recipe.quantization_aware:
        facts.append(f"for {recipe.quantization_aware.precision}")
    resumed = ""
    if trainer.resumed and trainer.epoch == recipe.epochs:
        resumed = f"{trainer.out} holds this training, and it is complete"
    elif trainer.extended_from:
        was, now = (
            msgspec.structs.replace(recipe, epochs=epochs).learning_rate_at(trainer.epoch / epochs)
            for epochs in (trainer.extended_from, recipe.epochs)
        )
        resumed = (
            f"going on after epoch {trainer.epoch}, for {recipe.epochs} epochs instead of {trainer.extended_from}: the "
            f"learning rate follows the schedule of all {recipe.epochs}, from {was:.1e} to {now:.1e} here"
        )
    elif trainer.resumed:
        resumed = f"resuming in epoch {trainer.epoch + 1}, after {trainer.next_step} of its steps"
    return TrainingStarted(
        f"{what} {spec.model}", detail=", ".join(facts), resumed=resumed, note=trainer.precision.note
    )


def _sides(height: int, width: int) -> str:
    return str(height) if height == width else f"{height}x{width}"


@contextmanager
def _stop_on_interrupt(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C lets the step finish, so that the saved state is a whole one; a second Ctrl-C does not wait."""
    if threading.current_thread() is not threading.main_thread():  # the only one that may set signal handlers
        yield
        return

    def stop(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        trainer.stop()

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
