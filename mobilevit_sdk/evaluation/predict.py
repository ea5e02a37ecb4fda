"""The best classes of single images, or the objects on them, by a checkpoint or by an artifact."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from mobilevit_sdk.arguments import several
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.checkpoints.preparation import AS_STATED, Preparation
from mobilevit_sdk.data import crop_image, open_dataset, open_pictures
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.measure import ask, predictor_for
from mobilevit_sdk.processes.child import emit
from mobilevit_sdk.progress import Progress, counted, silent
from mobilevit_sdk.spec import ModelSpec, Preprocessing, Strict, nearest_size
from mobilevit_sdk.tasks import Detection, Predict, task_of

if TYPE_CHECKING:
    from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
    from mobilevit_sdk.data import ImageDataset

NOT_FINITE = "the scores are NaN or infinite: a broken network or file"
THRESHOLD = 0.7  # objects that are shown are at least so likely, as the authors of DETR show them


class LikelyClass(Strict, frozen=True):
    """A class and how likely it is, 0 to 1."""

    index: int
    label: str | None  # None where the model names no classes
    probability: float

    @property
    def name(self) -> str:
        """The label, or "class 7"."""
        return self.label or f"class {self.index}"


class RankedClass(LikelyClass, frozen=True):
    """A class of an image: its share of the softmax over all classes, and its score; of one score, the sigmoid."""

    score: float


class DetectedObject(LikelyClass, frozen=True):
    """An object and its box: x, y, width and height in pixels of the picture as it stands upright."""

    box: tuple[float, float, float, float]


class Prediction(Strict, frozen=True):
    """The best classes of one image, best first, or what a detector finds on it; without either, `problem` says why."""

    image: str
    classes: tuple[RankedClass, ...] | msgspec.UnsetType = ()  # unset by a detector
    problem: str | None = None
    objects: tuple[DetectedObject, ...] | msgspec.UnsetType = msgspec.UNSET  # set by a detector; it may find none

    @property
    def is_unread(self) -> bool:
        """Whether the image is at fault, and not what was asked about it."""
        return self.problem not in (None, NOT_FINITE)


@dataclass(frozen=True)
class Predictions:
    """A prediction for each image, in order, and what made them on which runtime."""

    target: str
    runtime: str
    preprocessing: Preprocessing  # of the images; of a file with several sizes, of its first
    predictions: tuple[Prediction, ...]
    notes: tuple[str, ...] = ()  # of the checkpoint and of the images
    image_sizes: tuple[tuple[int, int], ...] = ()  # of a file with several: each picture takes the nearest

    def preprocessing_for(self, width: int, height: int) -> Preprocessing:
        """How an upright picture of this size, in pixels, was prepared."""
        if not self.image_sizes:
            return self.preprocessing
        return self.preprocessing.at_size(*nearest_size(width, height, self.image_sizes))


def predict(
    images: Path | str | Sequence[Path | str],
    target: Checkpoint | Artifact | Path | str | None = None,
    *,
    runtime: str | None = None,
    top: int = 5,
    threshold: float = THRESHOLD,
    task: str | None = None,
    preparation: Preparation | None = None,
    progress: Progress = silent,
) -> Predictions:
    """The `top` best classes of images, by a checkpoint or by an artifact.

    Of a detector, all objects that are `threshold`, from 0 to 1, the likeliest first.

    `images` is one or several: a picture, or a folder, which stands for all pictures in it and below. They are prepared
    as the model asks for. `target`, `runtime`, `task` and `preparation` are those of `evaluate`: a checkpoint (by
    default the one that ships with the package) or an artifact, which runs in a process of its own.

    A picture that cannot be read or decoded is a prediction without classes, and stops no other. Raises RequestError
    for a folder without pictures, for a model that returns features, and for a `target` that is neither checkpoint nor
    artifact; CheckpointError, ArtifactError and ToolchainError as `evaluate` does.
    """
    if top < 1:
        raise RequestError(f"`top` counts classes, from 1 on: not {top}")
    if not 0 <= threshold <= 1:
        raise RequestError(f"`threshold` is a probability, from 0 to 1: not {threshold:g}")
    asked = _Asked(top, threshold)
    given: list[Path | str] = several(images)
    pictures = _pictures([Path(each) for each in given])
    result = ask(predict_dataset, target, runtime, pictures, asked, task, preparation or AS_STATED, progress)
    return dataclasses.replace(result, notes=(*result.notes, *pictures.notes))


def _pictures(paths: Sequence[Path]) -> ImageDataset:
    """The files, and for each folder all pictures in it."""
    if not paths:
        raise RequestError("nothing to predict: give an image")
    files: list[Path] = []
    notes: list[str] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = open_dataset(path)
        files += [path / name for name in inside.names]
        notes += (note for note in inside.notes if "counts as a class" not in note)
    return dataclasses.replace(open_pictures(files), notes=tuple(notes))


@dataclass(frozen=True)
class _Asked:
    """How many classes, and how likely objects."""

    top: int
    threshold: float


def predict_dataset(
    target: Checkpoint | str | None,
    runtime: str | None,
    pictures: ImageDataset,
    asked: _Asked,
    task: str | None = None,
    preparation: Preparation = AS_STATED,
    progress: Progress = emit,
) -> Predictions:
    """`predict` in this process, by default emitting the steps to the parent process."""
    predictor = predictor_for(target, runtime, preparation, task)
    spec = predictor.spec
    if not spec.num_queries:
        spec.require_scores("a prediction")
    answered, predictions = task_of(spec), []
    for row in counted(range(len(pictures)), "predicting", progress):
        name = pictures.names[row]
        try:
            if isinstance(answered, Detection):
                predictions.append(_detected(answered, predictor.predict, pictures, row, asked.threshold))
                continue
            picture = pictures.image(row)
            pixels = crop_image(picture, spec.preprocessing_for(*picture.size))
        except RequestError as error:
            missing = isinstance(error.__cause__, FileNotFoundError)
            problem = "no such file" if missing else str(error).removeprefix(f"{pictures.source}: {name} ")
            predictions.append(Prediction(name, msgspec.UNSET if spec.num_queries else (), problem))
            continue
        classes = ranked_classes(predictor.predict(pixels[None])[0], spec, asked.top)
        predictions.append(Prediction(name, classes, None if classes else NOT_FINITE))
    made = (predictor.target, predictor.runtime, spec.preprocessing, tuple(predictions), predictor.notes)
    return Predictions(*made, spec.image_sizes or ())


def _detected(detection: Detection, answer: Predict, pictures: ImageDataset, row: int, threshold: float) -> Prediction:
    (found,) = detection.find(answer, pictures, [row])
    name, labels = pictures.names[row], detection.spec.labels
    if found is None:
        return Prediction(name, classes=msgspec.UNSET, problem=NOT_FINITE)
    shown = found.above(threshold)
    objects = tuple(
        DetectedObject(index, labels[index] if labels else None, probability, tuple(box))
        for index, probability, box in zip(
            shown.classes.tolist(), shown.probabilities.tolist(), shown.boxes.tolist(), strict=True
        )
    )
    return Prediction(name, classes=msgspec.UNSET, objects=objects)


def ranked_classes(scores: np.ndarray, spec: ModelSpec, top: int) -> tuple[RankedClass, ...]:
    """The `top` best classes by `scores`, [num_classes]; of equal ones the lower index first. None if not finite."""
    scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        return ()
    if len(scores) == 1:
        probabilities = 1 / (1 + np.exp(-scores.clip(-700, 700)))
    else:
        shares = np.exp(scores - scores.max())
        probabilities = shares / shares.sum()
    best = np.argsort(-scores, kind="stable")[:top].tolist()
    return tuple(
        RankedClass(each, spec.labels[each] if spec.labels else None, float(probabilities[each]), float(scores[each]))
        for each in best
    )
