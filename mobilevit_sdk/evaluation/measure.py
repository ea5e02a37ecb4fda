"""The accuracy of a checkpoint or of an artifact on a data set: what `mobilevit eval` runs in a child process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilevit_sdk.artifacts.artifact import find_artifacts, open_artifact
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.accuracy import Accuracy, Predict, evaluate
from mobilevit_sdk.formats.converter import converter_of_file, converters, find_converter
from mobilevit_sdk.formats.runtime_ref import choose_runtime
from mobilevit_sdk.processes.child import emit
from mobilevit_sdk.spec import ModelSpec


@dataclass(frozen=True)
class Predictor:
    """A function from images to class scores, with what it computes and on which runtime."""

    target: str
    runtime: str
    spec: ModelSpec
    predict: Predict
    notes: tuple[str, ...] = ()  # of the checkpoint


@dataclass(frozen=True)
class Measurement:
    """The accuracy, and the speed including decoding and preprocessing of the images."""

    target: str
    runtime: str
    accuracy: Accuracy
    images_per_second: float
    notes: tuple[str, ...] = ()  # of the checkpoint


def measure(target: str | None, runtime: str | None, data: Path, limit: int | None, batch_size: int) -> Measurement:
    """Evaluate `target` over `data`, emitting steps to the parent process."""
    dataset = open_dataset(data, labeled=True)
    if limit is not None:
        dataset = dataset.sample(limit)
    predictor = predictor_for(target, runtime)
    started = time.monotonic()
    accuracy = evaluate(predictor.predict, predictor.spec, dataset, batch_size=batch_size, progress=emit)
    seconds = time.monotonic() - started
    return Measurement(predictor.target, predictor.runtime, accuracy, accuracy.images / seconds, predictor.notes)


def predictor_for(target: str | None, runtime: str | None) -> Predictor:
    """Load a checkpoint or an artifact; None is the checkpoint that ships with the package.

    Raises RequestError when it is neither or the runtime is not one of its own, ToolchainError when that cannot run
    here.
    """
    path = Path(target or "")
    if target is not None and (_is_phone_file(path) or path.is_dir()):
        return _artifact_predictor(path, runtime)
    return _checkpoint_predictor(target, runtime)


def _is_phone_file(path: Path) -> bool:
    return path.suffix in {converter.suffix for converter in converters().values()}


def _artifact_predictor(path: Path, name: str | None) -> Predictor:
    file = path
    if not (_is_phone_file(path) and path.exists()):
        found = find_artifacts([path])
        if len(found) > 1:
            raise RequestError(f"{path} holds {len(found)} artifacts; give one of them, such as {found[0].path.parent}")
        file = found[0].path
    inspection = converter_of_file(file).inspect(file)
    converter = find_converter(converter_of_file(file).format, inspection.backend)
    runtime = choose_runtime(converter, name, converter.runtimes, f"run {file.name}")
    spec = inspection.spec or open_artifact(file.parent).manifest.spec
    answer = runtime.load(file)
    return Predictor(str(path), runtime.name, spec, lambda images: np.stack([answer(image) for image in images]))


def _checkpoint_predictor(target: str | None, runtime: str | None) -> Predictor:
    import torch

    from mobilevit_sdk.checkpoints.source import open_source
    from mobilevit_sdk.data import to_model_input

    if runtime not in (None, "pytorch"):
        raise RequestError(f"a checkpoint runs with pytorch, not {runtime!r}; --runtime is for artifacts")
    checkpoint = open_source(target)
    model, spec = checkpoint.model.eval(), checkpoint.spec

    @torch.inference_mode()
    def predict(images: np.ndarray) -> np.ndarray:
        scores: torch.Tensor = model(to_model_input(torch.from_numpy(images), spec.preprocessing))
        return scores.numpy()

    return Predictor(checkpoint.source, "pytorch", spec, predict, checkpoint.notes)
