"""How good the answers of a checkpoint or of an artifact are on a dataset."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mobilevit_sdk.artifacts.artifact import MANIFEST, Artifact, find_artifact, open_artifact
from mobilevit_sdk.checkpoints.preparation import AS_STATED, Preparation
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.formats.converter import Converter, converter_of_file, converters, find_converter
from mobilevit_sdk.formats.runtime import Runtime, SelectiveRuntime
from mobilevit_sdk.formats.runtime_ref import choose_runtime
from mobilevit_sdk.processes.child import emit, run_in_child
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.spec import LOGITS, ModelSpec
from mobilevit_sdk.tasks import Images, Predict, task_of
from mobilevit_sdk.tasks.quality import Quality
from mobilevit_sdk.text import count

if TYPE_CHECKING:
    from torch import nn

    from mobilevit_sdk.checkpoints.checkpoint import Checkpoint


Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Predictor:
    """A function from images to answers, with what it computes and on which runtime."""

    target: str
    runtime: str
    spec: ModelSpec
    predict: Predict
    notes: tuple[str, ...] = ()  # of the checkpoint


@dataclass(frozen=True)
class Measurement:
    """The quality of the answers, and the speed including decoding and preprocessing of the images.

    `accuracy` is top-1 and top-5 of a classifier, and average precision of a detector.
    """

    target: str
    runtime: str
    accuracy: Quality
    images_per_second: float
    notes: tuple[str, ...] = ()  # of the checkpoint and of its classes


def evaluate(
    target: Checkpoint | Artifact | Path | str | None = None,
    *,
    data: ImageDataset | Path | str,
    runtime: str | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    task: str | None = None,
    preparation: Preparation | None = None,
    progress: Progress = silent,
) -> Measurement:
    """Top-1 and top-5 accuracy, or average precision of a detector, as shares from 0 to 1, on labeled images.

    `target` is a checkpoint (loaded, a file, or hf-hub:org/name; by default the one that ships with the package) or an
    artifact (opened, a file, or the folder of one), which runs on `runtime`, by default the first of its format that is
    available here. `data` is a folder of class folders, a Parquet file, or for a detector a COCO JSON file, open or
    not; `limit` takes only that many of its images, spread evenly. `task` is one that the target answers beside its own
    classes. `preparation` says how a checkpoint is fed, where it says it wrongly or not at all.

    A file runs in a process of its own: a malformed artifact cannot take this one down, and this one needs no torch.
    Raises RequestError when the target is neither, or the data do not fit the model, CheckpointError and ArtifactError
    for files that cannot be read, and ToolchainError when no runtime is available.
    """
    preparation = preparation or AS_STATED
    dataset = open_dataset(data, labeled=True)
    dataset = dataset.sample(limit or len(dataset)).checked(progress)
    known = data.notes if isinstance(data, ImageDataset) else ()
    notes = tuple(note for note in dataset.notes if note not in known)
    result = ask(measure, target, runtime, dataset, batch_size, task, preparation, progress)
    return dataclasses.replace(result, notes=(*result.notes, *notes))


def ask(
    function: Callable[..., Answer],
    target: Checkpoint | Artifact | Path | str | None,
    runtime: str | None,
    dataset: ImageDataset,
    how: Any,
    task: str | None,
    preparation: Preparation,
    progress: Progress,
) -> Answer:
    """`function` of these, such as `measure`: in a child process for a file, and here for a checkpoint in memory."""
    if isinstance(target, Artifact):
        target = target.path.parent
    if target is None or isinstance(target, str | Path):
        name = None if target is None else str(target)
        return run_in_child(function, name, runtime, dataset, how, task, preparation, on_event=progress)
    return function(target, runtime, dataset, how, task, preparation, progress)


def measure(
    target: Checkpoint | str | None,
    runtime: str | None,
    dataset: ImageDataset,
    batch_size: int,
    task: str | None = None,
    preparation: Preparation = AS_STATED,
    progress: Progress = emit,
) -> Measurement:
    """`evaluate` in this process, by default emitting the steps to the parent process."""
    predictor = predictor_for(target, runtime, preparation, task)
    asked = task_of(predictor.spec)
    started = time.monotonic()
    accuracy = asked.measure(predictor.predict, dataset, batch_size=batch_size, progress=progress)
    seconds = time.monotonic() - started
    notes = (*predictor.notes, *asked.notes(dataset))
    if accuracy.not_finite:
        notes += (
            f"{accuracy.not_finite:,} of {count(accuracy.images, 'image')} were answered with NaN or infinity: this is "
            f"a broken network or file, and its accuracy means nothing",
        )
    return Measurement(predictor.target, predictor.runtime, accuracy, accuracy.images / seconds, notes)


def predictor_for(
    target: Checkpoint | str | None,
    runtime: str | None,
    preparation: Preparation = AS_STATED,
    task: str | None = None,
) -> Predictor:
    """Load a checkpoint, unless it is loaded, or an artifact; None is the checkpoint that ships with the package.

    What it predicts are its own classes, or those of `task`. Raises RequestError when it is neither or the runtime is
    not one of its own, and ToolchainError when that cannot run here.
    """
    if isinstance(target, str) and is_artifact(path := Path(target)):
        if preparation != AS_STATED:
            raise RequestError(f"{path} is an artifact: how its images are prepared is in it, and nothing changes it")
        return _artifact_predictor(path, runtime, task)
    return _checkpoint_predictor(target, runtime, preparation, task)


def is_artifact(path: Path) -> bool:
    """Whether a target is meant as an artifact, by its suffix or as the folder of one, and not as a checkpoint."""
    return _is_phone_file(path) or path.is_dir()


def _is_phone_file(path: Path) -> bool:
    return path.suffix in {converter.suffix for converter in converters().values()}


def _artifact_predictor(path: Path, name: str | None, task: str | None) -> Predictor:
    file = path
    if not (_is_phone_file(path) and path.exists()):
        file = find_artifact(path).path
    inspection = converter_of_file(file).inspect(file)
    converter = find_converter(converter_of_file(file).format, inspection.backend)
    runtime = choose_runtime(converter, name, _able(converter, file), f"run {file.name}")
    spec = inspection.spec or open_artifact(file.parent).manifest.spec
    answer = runtime.load(file)
    values = values_of(spec, task)

    def predict(images: Images) -> np.ndarray:
        return np.stack([answer(image)[values] for image in images])

    return Predictor(str(path), runtime.name, spec.of_output(task) if spec.returns_scores else spec, predict)


def values_of(spec: ModelSpec, task: str | None) -> slice:
    """Where the scores of a task, or the network's own, stand in its answer; features stand behind all scores.

    A detector's boxes mean nothing without its scores: both are meant.
    """
    if len(spec.outputs) == 1 or spec.num_queries:
        return slice(None)
    start = 0
    for output in spec.outputs:
        if output.name == (task or LOGITS):
            return slice(start, start + (output.classes or 0))
        start += output.classes or 0
    return slice(None)  # an unknown task, which `of_output` refuses


def _able(converter: Converter, file: Path) -> list[Runtime]:
    """The runtimes that take the file's precision, where its manifest tells."""
    manifest = open_artifact(file.parent).manifest if (file.parent / MANIFEST).is_file() else None
    return [
        runtime
        for runtime in converter.runtimes
        if not (manifest and isinstance(runtime, SelectiveRuntime) and manifest.precision in runtime.refuses)
    ]


def _checkpoint_predictor(
    target: Checkpoint | str | None, runtime: str | None, preparation: Preparation, task: str | None
) -> Predictor:
    from mobilevit_sdk.checkpoints.features import classifier_of
    from mobilevit_sdk.checkpoints.load import as_checkpoint

    if runtime not in (None, "pytorch"):
        raise RequestError(f"a checkpoint runs with pytorch, not {runtime!r}; `runtime` is for artifacts")
    checkpoint = as_checkpoint(target, preparation)
    checkpoint = dataclasses.replace(checkpoint, spec=checkpoint.spec.entries[0])  # its network is that of one size
    checkpoint = classifier_of(checkpoint, task) if checkpoint.spec.returns_scores else checkpoint
    predict = network_predictor(checkpoint.model, checkpoint.spec)
    return Predictor(checkpoint.source, "pytorch", checkpoint.spec, predict, checkpoint.notes)


def network_predictor(model: nn.Module, spec: ModelSpec) -> Predict:
    """What a network on the CPU, put in eval mode, answers in PyTorch."""
    import torch

    from mobilevit_sdk.data import to_model_input
    from mobilevit_sdk.models.backbone import as_rows

    model.eval()

    @torch.inference_mode()
    def predict(images: Images) -> np.ndarray:
        return as_rows(model(to_model_input(torch.from_numpy(np.asarray(images)), spec.preprocessing))).numpy()

    return predict
