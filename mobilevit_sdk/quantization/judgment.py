"""An integer artifact judged by the task: compared with the float network on images it was not calibrated with."""

from __future__ import annotations

import msgspec
import numpy as np

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.artifacts.quantization_record import Judgment
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.data.calibration import CalibrationImages
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.formats.runtime_ref import choose_runtime
from mobilevit_sdk.parity import Threshold
from mobilevit_sdk.parity.judge import judge_outputs
from mobilevit_sdk.parity.runs import run_artifacts
from mobilevit_sdk.parity.views import views_of
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks import Detection, task_of


def cases_of(images: CalibrationImages) -> tuple[Case, ...]:
    names = images.dataset.names
    return tuple(Case(name, images.pixels(index)) for index, name in enumerate(names))


def judge_by_task(
    artifact: Artifact,
    images: CalibrationImages,
    reference: Reference,
    *,
    threshold: Threshold,
    progress: Progress = silent,
) -> Judgment:
    """Run the artifact over `images` on its first available runtime; `reference` holds the float network's answers.

    See `parity.judge.judge_outputs` for what rejects it. `progress` hears what `run_artifacts` tells. Raises
    ToolchainError when no runtime is available or it fails.
    """
    manifest = artifact.manifest
    converter = artifact.converter
    runtime = choose_runtime(converter, None, converter.runtimes, f"run {artifact.path.name} to judge its accuracy")
    (run,) = run_artifacts([artifact], runtimes=[runtime.name], reference=lambda _: reference, progress=progress)
    if run.outputs is None:
        assert run.refusal is not None
        raise ToolchainError(f"{run.runtime} does not run {artifact.path.name}: {run.refusal[1]}")
    labels = labels_of(images, manifest.spec)
    views = views_of(manifest.spec, reference, run.outputs)
    judged = judge_outputs(views, threshold, runtime=run.runtime, labels=labels)
    return with_precision(judged, reference.answers, run.outputs, images.dataset, manifest.spec)


def with_precision(
    judged: Judgment, reference: np.ndarray, answers: np.ndarray, dataset: ImageDataset | None, spec: ModelSpec
) -> Judgment:
    """With the average precision of a detector's answers, [images, values], where the images have labeled boxes of it.

    It is reported, and never decides: the float network's objects do.
    """
    task = task_of(spec)
    if not isinstance(task, Detection) or dataset is None:
        return judged
    try:
        float_ap, ap = (task.quality_of(each, dataset).ap for each in (reference, answers))
    except RequestError:  # no boxes, or of other classes
        return judged
    return msgspec.structs.replace(judged, ap_float=float_ap, ap=ap)


def labels_of(images: CalibrationImages, spec: ModelSpec) -> dict[str, np.ndarray]:
    """The class of each image, by the output that it is of; empty where the source has none or others.

    Of several outputs that the labels could be of, it is the one that has such class names; nothing is guessed.
    """
    found: dict[str, np.ndarray] = {}
    for output in spec.outputs:
        if output.kind == "scores":
            try:
                found[output.name] = np.asarray(task_of(spec.of_output(output.name)).match(images.dataset).labels)
            except RequestError:
                continue
    if len(found) > 1:
        names = set(images.dataset.class_names or ())
        found = {
            each.name: found[each.name]
            for each in spec.outputs
            if each.name in found and names & {*(each.labels or ())}
        }
    return found if len(found) == 1 else {}
