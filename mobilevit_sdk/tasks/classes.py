"""How the classes of labeled images meet those of a network's head."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.data.folder import natural_key
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.text import one_line, shorten


def match_classes(dataset: ImageDataset, spec: ModelSpec) -> ImageDataset:
    """The same labeled images with the class indices of the model's head.

    Where both sides name their classes, the names decide, and the data may hold only some of the classes; names that
    are all unknown go by their position where the data were opened with a class order. Raises RequestError when a class
    of the data is not in the head, when there are no labels, and for a head with one score, of which every image would
    be the best class: `match_answers` takes those.
    """
    spec.require_scores("an accuracy")
    if spec.num_classes == 1:
        raise RequestError(f"the head of {spec.model} has one score and nothing to choose between: give two classes")
    if dataset.labels is None and dataset.objects is not None:
        raise RequestError(f"{dataset.source} has boxes, and {spec.model} answers with classes: give a detector")
    if dataset.labels is None:
        raise RequestError(f"{dataset.source} has no labels; give one folder per class, or a Parquet column `label`")
    indices = class_indices(dataset, spec, dataset.labels)
    if indices is None:
        return dataset
    labels = [indices[label] for label in dataset.labels]
    return dataclasses.replace(dataset, labels=labels, class_names=spec.labels)


def class_indices(dataset: ImageDataset, spec: ModelSpec, present: Sequence[int]) -> list[int] | None:
    """For each class of the dataset its index in the head, -1 where only absent classes have none; None if the same.

    `present` are the classes of its images. Raises RequestError as `match_classes` does.
    """
    names, known = dataset.class_names, spec.labels
    count = len(names) if names else max(present, default=-1) + 1
    is_named = bool(names and known)
    if not is_named and (count > spec.num_classes or (names and count < spec.num_classes)):
        raise RequestError(f"{dataset.source} has {count} classes, but the head of {spec.model} has {spec.num_classes}")
    if not names or not known or names == known[:count]:
        return None
    index_of = {name: index for index, name in enumerate(known)}
    indices = [index_of.get(name, -1) for name in names]
    if max(indices) < 0 and count == len(known):
        if dataset.class_order:
            return list(range(count))
        remedy = f"rename the folders, or give `class_order=lexicographic` to match the {count} classes by position"
        if dataset.objects is not None:
            remedy = "rename the categories, or train a head for them"
        raise RequestError(
            f"no class of {dataset.source} ({shorten(names)}) is one of {spec.model} ({shorten(known)}); {remedy}"
        )
    for label in present:
        name = names[label]
        if known.count(name) > 1:
            raise RequestError(
                f"{spec.model} has {known.count(name)} classes called {name!r}, so the images of {dataset.source} do "
                f"not say which is meant; give labels that differ"
            )
        if indices[label] < 0:  # a folder without pictures may have any name
            raise RequestError(f"{dataset.source} has a class {name!r} that {spec.model} lacks; {suggest(name, known)}")
    return indices


def match_answers(dataset: ImageDataset, spec: ModelSpec) -> ImageDataset:
    """As `match_classes`, and of a head with one score: 1 where the right answer is yes, a score above 0, and 0 for no.

    Such data have two classes. Yes is the one that the head names, else the second. Raises RequestError for others.
    """
    if spec.num_classes > 1:
        return match_classes(dataset, spec)
    found = sorted(set(dataset.labels or ()))
    names = dataset.class_names or tuple(str(label) for label in found)
    if dataset.labels is None or len(names) != 2:
        raise RequestError(
            f"{dataset.source} has {len(names)} classes, but {spec.model} has one score, which says yes or no: give "
            f"images of both, in two folders"
        )
    yes = names.index(spec.labels[0]) if spec.labels and spec.labels[0] in names else 1
    whole = range(2) if dataset.class_names else found
    return dataclasses.replace(dataset, labels=[int(label == whole[yes]) for label in dataset.labels], class_names=None)


def class_order_notes(dataset: ImageDataset, spec: ModelSpec) -> tuple[str, ...]:
    """Which order of class folders gave the class indices, where neither the head's labels nor the user decided it."""
    names = dataset.class_names
    if spec.labels or not names or len(names) != spec.num_classes:
        return ()
    natural = tuple(sorted(names, key=natural_key))
    if dataset.class_order or not Path(dataset.source).is_dir() or natural == names:
        return ()
    return (
        f"the head of {spec.model} has no labels: its classes are the folders of {dataset.source} in lexicographic "
        f"order ({shorten(names)}), as torchvision's ImageFolder has them; if it was trained in natural order "
        f"({shorten(natural)}), give `class_order=natural`",
    )


def yes_notes(dataset: ImageDataset, spec: ModelSpec) -> tuple[str, ...]:
    """Which class a head with one score says yes to, where its label does not tell."""
    names, labels = dataset.class_names, spec.labels or ()
    if spec.num_classes != 1 or not names or len(names) != 2 or any(label in names for label in labels):
        return ()
    called = f"is called {one_line(labels[0])!r}" if labels else "has no label"
    return (
        f"the one score of {spec.model} {called}: above 0 was taken to mean {one_line(names[1])!r}; if it means "
        f"{one_line(names[0])!r}, right and wrong trade places",
    )
