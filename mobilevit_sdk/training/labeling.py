"""Storing a teacher's answers to augmented images, for students to learn from without it; and checking them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.recipe import Recipe, as_recipe
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.tasks.draws import Draws, image_seeds
from mobilevit_sdk.training.distillation import Teacher, make_teacher
from mobilevit_sdk.training.feeds import BatchFeed
from mobilevit_sdk.training.label_store import (
    MANIFEST,
    MAX_PARTS,
    Manifest,
    check_top_k,
    encode_keys,
    epoch_folder,
    read_manifest,
    record_type,
    stored_epochs,
    write_manifest,
    write_part,
)
from mobilevit_sdk.training.labels import StoredLabels, augmentation_of, data_identity, open_labels, versions
from mobilevit_sdk.training.pixels import ImageCache
from mobilevit_sdk.training.run import DEFAULT_MODEL, device_named
from mobilevit_sdk.training.start import spec_for_training
from mobilevit_sdk.training.teachers import TeacherLike, TeacherNetwork, open_teachers

PART_IMAGES = (256, 8192)  # of each pair of files, at least and at most: a killed process loses what it has of one
CHECKED_EPOCHS = 4
# A stored probability may differ by so much, and by this share of itself, where a teacher computes elsewhere; float16
# rounds to half a thousandth.
TOLERANCE, RELATIVE_TOLERANCE, MAX_DIFFERING = 0.002, 0.01, 0.01


@dataclass(frozen=True)
class Labeled:
    """What `store_labels` wrote: the labels, and how many records this process added; others may still be at work."""

    labels: StoredLabels
    written: int
    images_per_second: float
    complete: bool

    @property
    def bytes(self) -> int:
        """Of all records when complete."""
        known = self.labels.manifest
        return known.epochs * known.data.images * record_type(known.top_k, known.classes).itemsize


@dataclass(frozen=True)
class CheckedLabels:
    """How a sample of the records compares with what the teacher answers now."""

    records: int
    same_teacher: bool  # weights and buffers
    mean_difference: float  # of probabilities of the stored classes
    largest_difference: float
    differing_indices: float  # share of the K classes that now stand at another place
    beyond_rounding: float  # share of the records with a probability that differs beyond rounding

    @property
    def passed(self) -> bool:
        """Whether rounding explains the differences."""
        return self.beyond_rounding <= MAX_DIFFERING


def store_labels(
    data: ImageDataset | Path | str,
    teacher: TeacherLike | Sequence[TeacherLike],
    out: Path | str,
    *,
    epochs: int,
    top_k: int | None = None,
    recipe: Recipe | Path | str | None = None,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 64,
    device: str = "auto",
    process: tuple[int, int] = (0, 1),
    progress: Progress = silent,
) -> Labeled:
    """Store what a teacher answers to augmented images (TinyViT, arXiv 2207.10666): `train(labels=...)` learns from it.

    For each image and epoch, the folder `out` receives the seed of its view and the `top_k` most likely classes, by
    default 10 or all: see `label_store`. Of the `recipe`, the augmentation and the seed count; images are not mixed.
    `image_size` is that of the views, by default the teacher's own. `process` is (number, count): several processes
    with the same arguments share the work. A call that was interrupted or killed goes on where it stopped, and with
    more `epochs` adds to them.

    `progress` counts the records. Raises RequestError for what cannot be stored, and when `out` holds other labels.
    """
    folder, chosen = Path(out), as_recipe(recipe, Recipe())
    dataset = open_dataset(data, labeled=True).checked(progress)
    work = _Work.of(dataset, open_teachers(teacher), chosen, image_size, device_named(device), progress)
    top_k = min(10, work.spec.num_classes) if top_k is None else top_k
    try:
        check_top_k(top_k, work.spec.num_classes)
        if not 1 <= epochs <= 1_000_000:
            raise ValueError(f"1 to a million epochs can be stored, not {epochs}")
    except ValueError as error:
        raise RequestError(str(error)) from error
    least, most = PART_IMAGES
    manifest = Manifest(
        top_k=top_k,
        epochs=epochs,
        classes=work.spec.num_classes,
        labels=work.spec.labels,
        part_images=max(min(most, max(least, -(-len(dataset) // 16))), -(-len(dataset) // MAX_PARTS)),
        image_size=work.spec.preprocessing.image_size,
        pixels=work.feed.cache.size,
        seed=chosen.seed,
        augmentation=augmentation_of(chosen),
        versions=versions(),
        teacher=work.teacher.provenance,
        teacher_sha256=work.teacher.sha256,
        data=data_identity(dataset),
    )
    labels = StoredLabels(folder, _claim(folder, manifest))
    written, seconds = _write(work, labels, batch_size, process, progress)
    complete = not labels.missing(range(labels.manifest.epochs))
    return Labeled(labels, written, written / max(seconds, 1e-9), complete)


def check_labels(
    path: Path | str,
    teacher: TeacherLike | Sequence[TeacherLike],
    data: ImageDataset | Path | str,
    *,
    samples: int = 256,
    device: str = "auto",
    progress: Progress = silent,
) -> CheckedLabels:
    """Compute about `samples` of the stored records anew. Raises RequestError where that is not possible."""
    labels = open_labels(path)
    known = labels.manifest
    dataset = open_dataset(data, labeled=True).checked(progress)
    numbers = labels.numbers(dataset)
    epochs = sorted({index * known.epochs // CHECKED_EPOCHS for index in range(CHECKED_EPOCHS)})
    each = min(len(dataset), -(-samples // len(epochs)))
    rows = np.array([index * len(dataset) // each for index in range(each)])
    work = _Work.of(
        dataset.at(rows.tolist()),
        open_teachers(teacher),
        labels.recipe_for(Recipe(epochs=1, mix_probability=0.0)),
        known.image_size,
        device_named(device),
        progress,
        pixels=known.pixels,
        like=known,
    )
    differences, moved, beyond = [], [], []
    for done, epoch in enumerate(epochs, start=1):
        stored = labels.epoch(epoch).at(numbers[rows])
        found = work.probabilities(range(each), torch.from_numpy(stored["seed"].astype(np.int64)), 64)
        classes, probabilities = stored["classes"].astype(np.int64), stored["probabilities"].astype(np.float32)
        if classes.min() < 0 or classes.max() >= known.classes or not np.isfinite(probabilities).all():
            raise RequestError(f"{path} holds what are no probabilities of classes: its files are damaged")
        difference = np.abs(np.take_along_axis(found, classes, 1) - probabilities)
        order = np.argsort(-found, axis=1, kind="stable")[:, : known.top_k]
        differences.append(difference)
        moved.append(order != classes)
        beyond.append((difference > TOLERANCE + RELATIVE_TOLERANCE * probabilities).any(1))
        progress(Step("checking", done, len(epochs)))
    return CheckedLabels(
        records=each * len(epochs),
        same_teacher=work.teacher.sha256 == known.teacher_sha256,
        mean_difference=float(np.mean(differences)),
        largest_difference=float(np.max(differences)),
        differing_indices=float(np.mean(moved)),
        beyond_rounding=float(np.mean(beyond)),
    )


@dataclass(frozen=True)
class _Work:
    """Images in the views of a training, and the teacher that sees them."""

    feed: BatchFeed
    teacher: Teacher
    spec: ModelSpec

    @classmethod
    def of(
        cls,
        dataset: ImageDataset,
        teachers: Sequence[Checkpoint | TeacherNetwork],
        recipe: Recipe,
        image_size: int | tuple[int, int] | None,
        device: torch.device,
        progress: Progress,
        pixels: tuple[int, int] | None = None,
        like: Manifest | None = None,
    ) -> _Work:
        """With the classes of the data, or those of labels that are there; the network of the spec is never built."""
        size = image_size or _size_of(teachers[0])
        spec = spec_for_training(DEFAULT_MODEL, None, dataset, size)
        if like is not None:
            config = {**spec.config, "num_classes": like.classes}
            spec = msgspec.structs.replace(spec, labels=like.labels, config=config)
        teacher = make_teacher(teachers, msgspec.structs.replace(spec, model="a student of these images"), device)
        cache = ImageCache(dataset, spec.preprocessing.image_size, size=pixels, progress=progress)
        unmixed = msgspec.structs.replace(recipe, mix_probability=0.0)
        return cls(BatchFeed(task_of(spec), spec, unmixed, device, cache), teacher, spec)

    def probabilities(self, rows: Sequence[int], seeds: torch.Tensor, batch_size: int) -> np.ndarray:
        """What the teacher answers to views of images: float32 [rows, classes]."""
        return np.concatenate([*self.by_batch([(rows, seeds)], batch_size)])

    def by_batch(self, views: Sequence[tuple[Sequence[int], torch.Tensor]], batch_size: int) -> Iterator[np.ndarray]:
        """The same for several lists of rows and seeds; none of the batches has rows of two lists."""
        side = max(self.spec.preprocessing.image_size)
        plan = [
            (rows[start : start + batch_size], seeds[start : start + batch_size])
            for rows, seeds in views
            for start in range(0, len(rows), batch_size)
        ]
        for (images, rows), (_, seeds) in zip(self.feed.batches([rows for rows, _ in plan]), plan, strict=True):
            fed = self.feed.prepare(images, rows, side, Draws(seeds, torch.Generator()))
            assert fed.images is not None
            yield self.teacher.scores(fed.images).softmax(1).cpu().numpy()


def _size_of(teacher: Checkpoint | TeacherNetwork) -> tuple[int, int]:
    size = teacher.spec.preprocessing.image_size if isinstance(teacher, Checkpoint) else teacher.image_size
    if size is None:
        raise RequestError(f"the teacher {teacher.name} takes images of any size: give `image_size`")  # type: ignore[union-attr]
    return size


def _claim(folder: Path, manifest: Manifest) -> Manifest:
    """The manifest of the folder, written if there is none, with as many epochs as asked for or as there are.

    Raises RequestError where the folder holds other labels.
    """
    if not (folder / MANIFEST).exists():
        if stored_epochs(folder):
            read_manifest(folder)  # of TinyViT's code: says why that is of no use
        write_manifest(folder, manifest)
        return manifest
    there = read_manifest(folder)
    mine, theirs = (msgspec.json.decode(msgspec.json.encode(each)) for each in (manifest, there))
    for each in (mine, theirs):  # what files are called, and how long this goes on
        del each["epochs"], each["teacher"], each["data"]["source"]
    if other := [name for name in mine if mine[name] != theirs[name]]:
        told = ", ".join(name.removesuffix("_sha256").replace("_", " ") for name in other)
        raise RequestError(f"{folder} holds labels that differ in {told}; give another `out`")
    if manifest.epochs > there.epochs:
        write_manifest(folder, manifest)
        return manifest
    return there


def _write(
    work: _Work, labels: StoredLabels, batch_size: int, process: tuple[int, int], progress: Progress
) -> tuple[int, float]:
    """Write the parts of this process that are not there; the number of records, and the seconds that it took."""
    known, (own, processes) = labels.manifest, process
    kind = record_type(known.top_k, known.classes)
    units = [(epoch, part) for epoch in range(known.epochs) for part in range(known.parts)]
    mine, missing = units[own::processes], set(labels.missing(range(known.epochs)))
    total = sum(len(known.rows(part)) for _, part in mine)
    before = sum(len(known.rows(part)) for epoch, part in mine if (epoch, part) not in missing)
    written, started = 0, time.monotonic()
    for epoch in range(known.epochs):
        parts = [part for at, part in mine if at == epoch and (at, part) in missing]
        views = [(known.rows(part), image_seeds(known.seed, epoch, known.rows(part))) for part in parts]
        batches = work.by_batch(views, batch_size)
        for part, (rows, seeds) in zip(parts, views, strict=True):
            records = np.empty(len(rows), kind)
            records["seed"] = seeds.numpy()
            done = 0
            while done < len(rows):
                best = torch.from_numpy(next(batches)).topk(known.top_k)
                here = slice(done, done + len(best.values))
                records["classes"][here] = best.indices.numpy()
                records["probabilities"][here] = best.values.numpy()
                done = here.stop
                rate = (written + done) / max(time.monotonic() - started, 1e-9)
                detail = f"epoch {epoch + 1} of {known.epochs}, {rate:,.0f} images/s"
                progress(Step("labeling", before + written + done, total, detail=detail))
            names = work.feed.dataset.names
            keys = encode_keys([names[row] for row in rows])
            write_part(epoch_folder(labels.path, known.top_k, epoch), part, keys, records)
            written += len(rows)
    return written, time.monotonic() - started
