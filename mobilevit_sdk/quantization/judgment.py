"""An artifact in integers, judged by the task: on images that it was not calibrated with, beside the float network."""

from __future__ import annotations

import numpy as np

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.artifacts.quantization_record import Judgment
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.data.calibration import CalibrationImages
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import RequestError, ToolchainError
from mobilevit_sdk.evaluation.accuracy import match_classes, top1_of
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.parity import compare
from mobilevit_sdk.parity.runs import run_artifacts
from mobilevit_sdk.spec import ModelSpec


def cases_of(images: CalibrationImages) -> tuple[Case, ...]:
    names = images.dataset.names
    return tuple(Case(name, images.pixels(index)) for index, name in enumerate(names))


def judge_by_task(
    artifact: Artifact, images: CalibrationImages, reference: Reference, *, min_agreement: float
) -> Judgment:
    """Run the artifact over `images` on the first runtime that is here; `reference` holds the float network's answers.

    Where it names the same class for fewer than the share `min_agreement` of them, it is rejected. Raises
    ToolchainError when no runtime is here or it fails.
    """
    manifest = artifact.manifest
    runtimes = find_converter(manifest.format, manifest.backend).runtimes
    usable = [runtime.name for runtime in runtimes if runtime.availability()]
    if not usable:
        raise ToolchainError(f"nothing here runs {artifact.path.name}, so its accuracy cannot be judged; see doctor")
    (run,) = run_artifacts([artifact], runtimes=usable[:1], reference=lambda _: reference)
    if run.outputs is None:
        assert run.refusal is not None
        raise ToolchainError(f"{run.runtime} does not run {artifact.path.name}: {run.refusal[1]}")
    agreement = compare(reference.logits, run.outputs)
    labels = labels_of(images, manifest.spec)
    return Judgment(
        runtime=run.runtime,
        images=len(images),
        agreement=agreement.top1_agreement,
        min_agreement=min_agreement,
        worst_sqnr_db=agreement.sqnr_db.worst,
        median_sqnr_db=agreement.sqnr_db.median,
        top1_float=None if labels is None else top1_of(reference.logits, labels),
        top1=None if labels is None else top1_of(run.outputs, labels),
        rejected=agreement.top1_agreement < min_agreement,
    )


def labels_of(images: CalibrationImages, spec: ModelSpec) -> np.ndarray | None:
    """The class of each image, or None where the source has none or others than the network's head."""
    try:
        return np.asarray(match_classes(images.dataset, spec).labels)
    except RequestError:
        return None
