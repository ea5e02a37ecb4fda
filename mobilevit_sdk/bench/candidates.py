"""What can be measured: artifacts on the runtimes that can be timed; `baselines` adds the alternatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.formats.runtime import Session, TimedRuntime
from mobilevit_sdk.models.meta_model import count_macs
from mobilevit_sdk.parity.views import lowest_db, views_of
from mobilevit_sdk.spec import ModelSpec, in_pixels


@dataclass(frozen=True)
class Question:
    """What every candidate of one network computes: PyTorch's answers to an image, and the work in between."""

    reference: Reference  # of one case
    spec: ModelSpec
    macs: int  # multiply-accumulates

    @property
    def image(self) -> np.ndarray:
        """RGB uint8 [3, H, W]."""
        return self.reference.cases[0].image

    def sqnr_db(self, answer: np.ndarray) -> float:
        """The SQNR of an answer, a row, in its worst output, in dB. Raises ToolchainError for one of another shape."""
        expected = self.reference.answers[0]
        if answer.shape != expected.shape:
            raise ToolchainError(f"it answers {answer.shape} scores, PyTorch {expected.shape}")
        return lowest_db(views_of(self.spec, self.reference, answer[None]))


@dataclass(frozen=True, eq=False)
class Candidate:
    """Something that answers images: `open_session(threads)` loads it in a child process, so it has to be picklable.

    `artifact` is the file, or the checkpoint that a baseline answers from; `unavailable` is the reason why it cannot
    run here.
    """

    artifact: str
    runtime: str
    question: Question
    open_session: Callable[[int], Session]
    unavailable: str | None = None


def candidates_of(artifact: Artifact) -> list[Candidate]:
    """The artifact on each of its runtimes that can be timed; at least one candidate, which may be unavailable.

    Raises ArtifactError when the file has changed, or its reference vectors are missing or malformed.
    """
    artifact.require_unchanged()
    manifest = artifact.manifest
    runtimes = artifact.converter.runtimes
    timed = [runtime for runtime in runtimes if isinstance(runtime, TimedRuntime)]
    if not timed:
        names = ", ".join(runtime.name for runtime in runtimes)
        reason = f"no runtime of {manifest.format} ({names}) can be told its number of threads"
        question = question_of(artifact)
        return [
            Candidate(str(artifact.path), runtimes[0].name, question, artifact.on(runtimes[0].name).session, reason)
        ]
    sizes = manifest.spec.sizes
    return [
        Candidate(
            str(artifact.path),
            runtime.name if len(sizes) == 1 else f"{runtime.name} at {in_pixels(size)}",
            question_of(artifact, index),
            artifact.on(runtime.name).session,
            runtime.availability().reason,
        )
        for runtime in timed
        for index, size in enumerate(sizes)
    ]


def question_of(artifact: Artifact, entry: int = 0) -> Question:
    """The first of the artifact's reference vectors; of a file with several input sizes, the first of that entry."""
    reference, spec = artifact.reference(), artifact.manifest.spec.entries[entry]
    shapes = [case.image.shape[1:] for case in reference.cases]
    row = shapes.index(spec.preprocessing.image_size)
    rows = slice(row, row + 1)
    first = dataclasses.replace(reference, cases=reference.cases[rows], answers=reference.answers[rows])
    return Question(first, spec, count_macs(spec))
