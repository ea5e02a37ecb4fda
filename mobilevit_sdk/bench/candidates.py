"""What can be measured: artifacts on the runtimes that can be timed; `baselines` adds what else a user could run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import ArtifactError
from mobilevit_sdk.formats.converter import find_converter
from mobilevit_sdk.formats.runtime import Session, TimedRuntime
from mobilevit_sdk.models.meta_model import count_macs


@dataclass(frozen=True)
class Question:
    """What every candidate of one network answers: an image, PyTorch's scores for it, and how much there is to do."""

    image: np.ndarray  # RGB uint8 [3, H, W]
    scores: np.ndarray  # float32 [num_classes]
    macs: int


@dataclass(frozen=True, eq=False)
class Candidate:
    """Something that answers images: `open_session(*arguments, threads)` loads it, in a child process.

    `artifact` is the file, or the checkpoint that a baseline answers from; `unavailable` is the reason why it cannot
    run here.
    """

    artifact: str
    runtime: str
    question: Question
    open_session: Callable[..., Session]
    arguments: tuple[Any, ...]
    unavailable: str | None = None


def candidates_of(artifact: Artifact) -> list[Candidate]:
    """The artifact on each of its runtimes that can be timed; at least one, which may not be available.

    Raises ArtifactError when the file has changed, or its reference vectors are missing or malformed.
    """
    if not artifact.is_unchanged():
        raise ArtifactError(f"{artifact.path} is not the file that its manifest describes; convert it again")
    question = question_of(artifact)
    manifest = artifact.manifest
    runtimes = find_converter(manifest.format, manifest.backend).runtimes
    timed = [runtime for runtime in runtimes if isinstance(runtime, TimedRuntime)]
    if not timed:
        names = ", ".join(runtime.name for runtime in runtimes)
        reason = f"no runtime of {manifest.format} ({names}) can be told its number of threads"
        return [Candidate(str(artifact.path), runtimes[0].name, question, open_artifact_session, (), reason)]
    return [
        Candidate(
            str(artifact.path),
            runtime.name,
            question,
            open_artifact_session,
            (manifest.format, manifest.backend, runtime.name, artifact.path),
            runtime.availability().reason,
        )
        for runtime in timed
    ]


def question_of(artifact: Artifact) -> Question:
    """The first of the artifact's reference vectors."""
    reference = artifact.reference()
    case: Case = reference.cases[0]
    return Question(case.image, reference.logits[0], count_macs(artifact.manifest.spec))


def open_artifact_session(
    format_name: str, backend: str | None, runtime_name: str, path: Path, threads: int
) -> Session:
    """In a child process: load a file with the runtime that its format calls `runtime_name`."""
    runtime = next(r for r in find_converter(format_name, backend).runtimes if r.name == runtime_name)
    assert isinstance(runtime, TimedRuntime)
    return runtime.session(path, threads)
