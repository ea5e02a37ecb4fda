"""Learning from stored labels: the views that a teacher saw, made again from their seeds, and what it answered."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import PIL
import torch
from torch import Tensor, nn

from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.data.storage import RowNames
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Progress
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks.draws import AUGMENTATION_VERSION, Draws, image_seeds
from mobilevit_sdk.tasks.task import Task
from mobilevit_sdk.text import count
from mobilevit_sdk.training.feeds import BatchFeed, Fed, Feed, make_feed
from mobilevit_sdk.training.label_store import (
    AUGMENTATION,
    DataIdentity,
    Epoch,
    Manifest,
    Versions,
    epoch_folder,
    is_written,
    manifest_sha256,
    read_epoch,
    read_manifest,
)

SAMPLES = 16  # images of which a manifest has the hash


@dataclass(frozen=True)
class StoredLabels:
    """A folder of stored labels. With `reuse`, a training of more epochs begins again with the first."""

    path: Path
    manifest: Manifest
    reuse: bool = False

    @property
    def sha256(self) -> str:
        """Of the manifest, but for the number of epochs."""
        return manifest_sha256(self.manifest)

    @property
    def provenance(self) -> dict[str, Any]:
        """What checkpoints say of it."""
        known = self.manifest
        shared = {"top_k": known.top_k, "epochs": known.epochs, "image_size": list(known.image_size)}
        return {"sha256": self.sha256, **shared, "teacher": known.teacher}

    @property
    def name(self) -> str:
        """Whose answers they are, for people."""
        return teacher_name(self.manifest.teacher)

    def notes(self, recipe: Recipe) -> list[str]:
        """What a training with this recipe does otherwise than one might think."""
        made, here = self.manifest.versions, versions()
        found = []
        if (made.torch, made.pillow) != (here.torch, here.pillow):
            found.append(
                f"{self.path} was made with torch {made.torch} and Pillow {made.pillow}, and here are {here.torch} and "
                f"{here.pillow}, whose pixels may be rounded otherwise: `mobilevit label --check` measures it"
            )
        wanted, have = augmentation_of(recipe), self.manifest.augmentation
        if other := [name for name in AUGMENTATION if wanted[name] != have[name]]:
            found.append(f"the views are those of the labels, whose {', '.join(other)} replace the recipe's")
        return found

    def recipe_for(self, recipe: Recipe, student: ModelSpec | None = None, *, alone: bool = True) -> Recipe:
        """The recipe of a training: the augmentation of the labels, and no smoothing.

        Raises RequestError for what stored labels do not go with, such as a teacher: `alone` is False.
        """
        if student is not None and student.num_queries:
            raise RequestError(f"{student.model} answers with boxes, and stored labels are classes: leave them out")
        if not alone:
            raise RequestError("stored labels take the place of a teacher: leave out `labels` or `teacher`")
        wrong = {
            "are of images that are not mixed: set mix_probability to 0": recipe.mix_probability > 0,
            "have one view of an image in an epoch: set repeats to 1": recipe.repeats > 1,
            "take the place of a teacher: leave out distillation": recipe.distillation is not None,
            "are of images of one size: leave out packing": recipe.packing is not None,
            "go with no simulated integers: leave out quantization_aware": recipe.quantization_aware is not None,
        }
        if problem := next((problem for problem, is_so in wrong.items() if is_so), None):
            raise RequestError(f"stored labels {problem} in the recipe")
        if recipe.epochs > self.manifest.epochs and not self.reuse:
            raise RequestError(
                f"{self.path} has labels of {count(self.manifest.epochs, 'epoch')}, and the training has "
                f"{recipe.epochs}: make more with `mobilevit label`, or give `reuse_labels` to see them again"
            )
        try:
            fields = msgspec.to_builtins(recipe) | {"label_smoothing": 0.0} | self.manifest.augmentation
            return msgspec.convert(fields, Recipe)
        except (msgspec.ValidationError, ValueError) as error:
            raise RequestError(f"the augmentation of {self.path} is not of this SDK: {error}") from error

    def epoch(self, number: int) -> Epoch:
        """The records of an epoch, in the order of the data. Raises RequestError where some are missing."""
        known = self.manifest
        if missing := self.missing([number]):
            raise RequestError(
                f"{self.path} is not complete: epoch {number} lacks {count(missing, 'part')} of {known.parts}; the "
                f"command that made it goes on with it"
            )
        found = read_epoch(self.path, known.top_k, number, known.classes)
        if [*map(len, found.records)] != [len(known.rows(part)) for part in range(known.parts)]:
            raise RequestError(f"{found.folder} has {len(found):,} records, not {known.data.images:,}: make it again")
        return found

    def missing(self, epochs: Sequence[int]) -> list[tuple[int, int]]:
        """Parts that are not written, as (epoch, part)."""
        known = self.manifest
        return [
            (epoch, part)
            for epoch in epochs
            for folder in [epoch_folder(self.path, known.top_k, epoch)]
            for part in range(known.parts)
            if not is_written(folder, part)
        ]

    def numbers(self, data: ImageDataset) -> np.ndarray:
        """For each image of `data` the number of its record, by its name: int64 [images].

        Raises RequestError for images without a record, and where those of the same name are others.
        """
        first, digest = self.epoch(0), hashlib.sha256()
        keys = []
        for key in first.keys():  # noqa: SIM118
            digest.update(f"{key}\n".encode(errors="surrogateescape"))
            keys.append(key)
        if digest.hexdigest() != self.manifest.data.names_sha256:
            raise RequestError(f"the names of images in {first.folder} are not those of the manifest: make it again")
        if len(keys) == len(data) and all(mine == key for mine, key in zip(data.names, keys, strict=True)):
            found = np.arange(len(data))
        else:
            known = {key: number for number, key in enumerate(keys)}
            found = np.array([known.get(name, -1) for name in data.names], np.int64)
        if (unknown := np.flatnonzero(found < 0)).size:
            raise RequestError(
                f"{self.path} has no labels of {unknown.size:,} of {count(data, 'image')} of {data.source}, such as "
                f"{data.names[int(unknown[0])]}: label these images"
            )
        keys_of = {number: row for row, number in enumerate(found.tolist())}
        for name, sha256 in self.manifest.data.samples.items():
            row = keys_of.get(int(name))
            if row is not None and _short_sha256(data.read(row)) != sha256:
                raise RequestError(f"{data.names[row]} of {data.source} is another image than {self.path} labels")
        return found

    def class_order(self, spec: ModelSpec) -> Tensor | None:
        """The numbers that the student's classes have in the labels; None if the same. Raises RequestError."""
        known, wanted = self.manifest.labels, spec.labels
        if known and wanted and set(known) != set(wanted):
            other = next(iter(set(known) ^ set(wanted)))
            raise RequestError(f"{self.path} labels other classes than {spec.model} has, such as {other!r}")
        if self.manifest.classes != spec.num_classes:
            raise RequestError(
                f"{self.path} has {self.manifest.classes} classes, but {spec.model} is to learn {spec.num_classes}"
            )
        if not known or not wanted or known == wanted:
            return None
        return torch.tensor([known.index(name) for name in wanted])


def open_labels(path: Path | str, *, reuse: bool = False) -> StoredLabels:
    """Stored labels to train on. Raises RequestError where this SDK cannot make their images again."""
    folder = Path(path)
    found = StoredLabels(folder, read_manifest(folder), reuse)
    if (made := found.manifest.versions.augmentation) != AUGMENTATION_VERSION:
        raise RequestError(
            f"{folder} was made with version {made} of the augmentation, and this SDK has version "
            f"{AUGMENTATION_VERSION}, which makes other images of its seeds: make the labels again"
        )
    return found


def labeled_feed(
    labels: StoredLabels | None,
    task: Task,
    spec: ModelSpec,
    recipe: Recipe,
    model: nn.Module,
    data: ImageDataset,
    device: torch.device,
    progress: Progress,
) -> Feed:
    """`make_feed`, with stored labels or without."""
    if labels is None:
        return make_feed(task, spec, recipe, model, data, device, progress)
    same = not recipe.sizes and spec.preprocessing.image_size == labels.manifest.image_size
    pixels = labels.manifest.pixels if same else None  # then the views are those of the teacher to the bit
    feed = make_feed(task, spec, recipe, model, data, device, progress, pixels)
    assert isinstance(feed, BatchFeed)
    return LabelFeed(feed, labels)


class LabelFeed:
    """Images of a BatchFeed in the views that were labeled, whose targets are the stored answers."""

    def __init__(self, feed: BatchFeed, labels: StoredLabels) -> None:
        height, width = labels.manifest.image_size
        mine = feed.spec.preprocessing.image_size
        if abs(mine[0] * width - mine[1] * height) > max(height, width) / 2:
            raise RequestError(
                f"{labels.path} is of images of {height}x{width} pixels, and inputs of {mine[0]}x{mine[1]} have other "
                f"proportions: give `image_size` in those of the labels"
            )
        self.feed, self.labels = feed, labels
        self.dataset, self.batches = feed.dataset, feed.batches
        self.numbers, self.order = labels.numbers(feed.dataset), labels.class_order(feed.spec)
        self._epoch, self._records = -1, labels.epoch(0)

    def seeds(self, epoch: int, rows: Tensor) -> Tensor:
        """Of the views of an epoch that begins; `prepare` then reads its records."""
        known = self.labels.manifest
        stored = epoch % known.epochs
        if stored != self._epoch:
            self._epoch, self._records = stored, self.labels.epoch(stored)
        return image_seeds(known.seed, stored, self.numbers[rows.numpy()])

    def prepare(self, images: Tensor, rows: Sequence[int], side: int, draws: Draws) -> Fed:
        """See `Feed`; with the teacher's stored probabilities as targets."""
        fed = self.feed.prepare(images, rows, side, draws)
        records = self._records.at(self.numbers[np.asarray(rows)])
        if (records["seed"] != draws.seeds.numpy()).any():
            raise RequestError(f"{self._records.folder} has other seeds than its manifest says: make it again")
        targets = soft_targets(records, self.labels.manifest.classes, self._records.folder)
        targets = targets if self.order is None else targets[:, self.order]
        return Fed(fed.x, targets.to(self.feed.device))

    def answers(self, model: nn.Module, x: Tensor) -> Any:
        """See `Feed`."""
        return self.feed.answers(model, x)


def soft_targets(records: np.ndarray, classes: int, source: Path) -> Tensor:
    """Class probabilities, float32 [B, classes]: those stored, and what is left to 1 evenly on the others.

    TinyViT, equation 3. Raises RequestError, naming `source`, for records that no teacher gave.
    """
    index, stored = records["classes"].astype(np.int64), records["probabilities"].astype(np.float32)
    sums = stored.sum(1)
    if not (np.isfinite(stored).all() and stored.min() >= 0 and sums.max() < 1.01 and index.min() >= 0):
        raise RequestError(f"{source} holds what are no probabilities of classes: its files are damaged")
    if index.max() >= classes:
        raise RequestError(f"{source} names class {index.max()} of {classes}: its files are damaged")
    rest = np.maximum(1 - sums, 0) / max(1, classes - stored.shape[1])
    targets = torch.from_numpy(rest.astype(np.float32))[:, None].repeat(1, classes)
    return targets.scatter_(1, torch.from_numpy(index), torch.from_numpy(stored))


def versions() -> Versions:
    """Of what makes pixels here."""
    return Versions(augmentation=AUGMENTATION_VERSION, torch=str(torch.__version__), pillow=PIL.__version__)


def data_identity(data: ImageDataset) -> DataIdentity:
    """Of the images that are labeled. Raises RequestError where two have one name, by which records are found."""
    unique = data.names.files if isinstance(data.names, RowNames) else data.names  # of rows, those of their files
    if len(set(unique)) != len(unique):
        twice = next(name for name, times in Counter(unique).items() if times > 1)
        raise RequestError(f"{data.source} has the name {twice} twice, and labels are found by names: rename one")
    digest = hashlib.sha256()
    for name in data.names:
        digest.update(f"{name}\n".encode(errors="surrogateescape"))
    chosen = {index * len(data) // SAMPLES for index in range(SAMPLES)}
    samples = {str(row): _short_sha256(data.read(row)) for row in sorted(chosen)}
    return DataIdentity(source=data.source.name, images=len(data), names_sha256=digest.hexdigest(), samples=samples)


def teacher_name(provenance: dict[str, Any]) -> str:
    """For people, of what checkpoints say of it."""
    several = provenance.get("mean_of")
    if isinstance(several, list):
        return " + ".join(teacher_name(each) for each in several if isinstance(each, dict))
    return str(provenance.get("model", "a teacher"))


def _short_sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def augmentation_of(recipe: Recipe) -> dict[str, Any]:
    """What the views of images depend on, beside their seeds, as JSON has it."""
    fields = msgspec.json.decode(msgspec.json.encode(recipe))
    return {name: fields[name] for name in AUGMENTATION}
