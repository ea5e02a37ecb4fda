"""Artifacts run on runtimes: each pair in a child process, some side by side, with the answers they gave."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mobilevit_sdk.arguments import names
from mobilevit_sdk.artifacts.artifact import Artifact, ArtifactLike, find_artifacts
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import ArtifactError, MobileViTError, RequestError, suggest
from mobilevit_sdk.formats.runtime import OnRequestRuntime, Runtime, SelectiveRuntime
from mobilevit_sdk.formats.runtime_ref import RuntimeRef
from mobilevit_sdk.processes.child import emit, run_in_child
from mobilevit_sdk.progress import Progress, Step, silent

TIMEOUT_SECONDS = 600.0  # an emulated processor takes a minute for one image of a large network

CHANGED: tuple[Literal["failed"], str] = (
    "failed",
    "the file is not the one that its manifest describes: its size or SHA-256 differs",
)

ReferenceOf = Callable[[Artifact], Reference]


@dataclass(frozen=True)
class Run:
    """What a runtime answered for an artifact: rows like `Reference.answers`, or why there are none."""

    artifact: Artifact
    runtime: str
    version: str | None  # of the runtime, where it is available
    outputs: np.ndarray | None = None
    reference: Reference | None = None  # what was asked, with PyTorch's answers
    refusal: tuple[Literal["failed", "unavailable", "error"], str] | None = None
    seconds: float = 0.0  # to load the artifact and answer all cases
    device: str | None = None  # the phone that answered, such as "Pixel 8 (Android 15)"; None: this machine
    facts: tuple[tuple[str, str], ...] = ()  # what a phone says beside its answers: name and value, for people
    advice: str | None = None  # what to do about it where the answers miss their threshold

    @property
    def place(self) -> str:
        """Where it ran, in words: the runtime, and the phone."""
        return place(self.runtime, self.device)


def place(runtime: str, device: str | None) -> str:
    """Where something ran, in words: `litert-gpu`, or `litert-gpu of Pixel 8 (Android 15)`."""
    return f"{runtime} of {device}" if device else runtime


def run_artifacts(
    artifacts: ArtifactLike | Sequence[ArtifactLike],
    *,
    runtimes: str | Sequence[str] | None = None,
    reference: ReferenceOf | None = None,
    timeout: float = TIMEOUT_SECONDS,
    progress: Progress = silent,
) -> list[Run]:
    """Run each artifact on each of its runtimes over the cases of its `reference`, as many at a time as cores.

    `artifacts` is one or several files, folders, or folders of artifacts; `runtimes` limits which run, and is needed
    for those that run on request only. A runtime that answers no case for `timeout` seconds is stopped, which is an
    error. `progress` hears how many cases have run, with artifact and runtime as the task, and is called by one thread
    at a time. Raises ArtifactError where there is no artifact, and RequestError for an unknown runtime.
    """
    opened, runtimes, answers = find_artifacts(artifacts), names(runtimes), reference or Artifact.reference
    pairs = [(artifact, runtime) for artifact in opened for runtime in artifact.converter.runtimes]
    known = {runtime.name for _, runtime in pairs}
    for name in runtimes:
        if name not in known:
            raise RequestError(f"no artifact here runs on a runtime {name!r}; {suggest(name, known)}")
    one_at_a_time = threading.Lock()

    def tell(step: Step) -> None:
        with one_at_a_time:
            progress(step)

    def run(pair: tuple[Artifact, Runtime]) -> Run:
        artifact, runtime = pair
        availability = runtime.availability()
        if not availability:
            return Run(artifact, runtime.name, None, refusal=("unavailable", availability.reason or "not available"))
        precision = artifact.manifest.precision
        if isinstance(runtime, SelectiveRuntime) and precision in runtime.refuses:
            why = f"not for {precision}: {runtime.refuses[precision]}"
            return Run(artifact, runtime.name, availability.version, refusal=("unavailable", why))
        if not artifact.is_unchanged():
            return Run(artifact, runtime.name, availability.version, refusal=CHANGED)
        began = time.monotonic()
        asked = _ask(artifact, runtime, availability.version, answers, timeout, tell)
        return dataclasses.replace(asked, seconds=round(time.monotonic() - began, 3))

    def is_wanted(runtime: Runtime) -> bool:
        return runtime.name in runtimes if runtimes else not isinstance(runtime, OnRequestRuntime)

    wanted = [pair for pair in pairs if is_wanted(pair[1])]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(run, wanted))


def _ask(
    artifact: Artifact,
    runtime: Runtime,
    version: str | None,
    reference_of: ReferenceOf,
    timeout: float,
    progress: Progress,
) -> Run:
    reference = reference_of(artifact)
    reference.check(artifact.manifest.spec)
    task = f"{artifact.path.parent.name} on {runtime.name}"
    progress(Step("verifying", 0, len(reference.cases), task=task))
    try:
        outputs = run_in_child(
            run_cases,
            artifact.on(runtime.name),
            reference.cases,
            on_event=lambda step: progress(dataclasses.replace(step, task=task)),
            timeout=timeout,
            threads=1,  # what runs beside neither slows it down nor changes the last bit of an answer
        )
    except ArtifactError as error:  # the runtime works, and the file is not for it
        return Run(artifact, runtime.name, version, refusal=("failed", str(error)))
    except MobileViTError as error:
        return Run(artifact, runtime.name, version, refusal=("error", str(error)))
    if outputs.shape != reference.answers.shape:
        other = f"it answers {outputs.shape[1:]} scores, the reference {reference.answers.shape[1:]}"
        return Run(artifact, runtime.name, version, refusal=("failed", other))
    return Run(artifact, runtime.name, version, outputs, reference)


def run_cases(ref: RuntimeRef, cases: Sequence[Case]) -> np.ndarray:
    """In a child process: the answers to every case, float32 [cases, values]; emits a step for each."""
    loaded = ref.load()
    outputs = []
    for done, case in enumerate(cases, start=1):
        outputs.append(np.array(loaded(case.as_passed()), dtype=np.float32))
        emit(Step("verifying", done, len(cases)))
    return np.stack(outputs)
