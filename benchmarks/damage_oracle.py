"""What a damaged phone file may do: be refused, fail the gate, or compute what its original computes.

Anything else is a defect: a file that passes the gate and answers images that the gate has not seen in another way, or
an exception that is not one of this SDK's errors. `mutated_artifacts.py` and the tests of the converters share this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.data.cases import Case
from mobilevit_sdk.errors import ArtifactError, MobileViTError, ToolchainError
from mobilevit_sdk.formats.runtime_ref import RuntimeRef
from mobilevit_sdk.parity import THRESHOLDS, Run, compare, judge
from mobilevit_sdk.processes.child import emit, run_in_child

UNSEEN = 8  # images that the gate has not seen
MARGIN_DB = 3.0  # by so much the worst of 8 images may differ from the worst of 27
TIMEOUT = 60.0  # seconds for one file of a network that takes a hundredth of one


@dataclass(frozen=True)
class Fate:
    """What became of a damaged file: a status of the gate, with its reason; `unseen_db` where it passed."""

    status: str
    reason: str
    unseen_db: float | None = None
    wrong: bool = False  # it passed, and is another function than its original


def unseen_cases(reference: Reference) -> tuple[Case, ...]:
    """Images that are not among those of `reference`: noise, and photographs shifted by five pixels."""
    noise = np.random.default_rng(1)
    shape = reference.cases[0].image.shape
    images = [noise.integers(0, 256, shape, np.uint8) for _ in range(UNSEEN // 2)]
    images += [np.roll(case.image, 5, axis=2) for case in reference.cases[: UNSEEN // 2]]
    return tuple(Case(f"unseen {i}", image) for i, image in enumerate(images))


def unseen_db(expected: np.ndarray, found: np.ndarray) -> float:
    """The SQNR in dB of answers to the unseen cases, against the original's; that of the worst case."""
    return compare(expected, found).sqnr_db.worst


def is_another_function(unseen: float, precision: str) -> bool:
    """Whether a file that passed is too far from its original, by the threshold of its precision.

    A damage that just passes on the images of the gate may just miss on others: hence `MARGIN_DB`.
    """
    return unseen < THRESHOLDS[precision].sqnr_db - MARGIN_DB


def fates_of(original: Artifact, runtime: str, damaged: Sequence[Path], reference: Reference) -> list[Fate]:
    """The fate of each of the files `damaged`, copies of `original` that were changed, on `runtime`.

    All answer in one child process, and in a fresh one after each that takes it down. Raises ToolchainError when the
    original does not run.
    """
    unseen = unseen_cases(reference)
    cases = (*reference.cases, *unseen)
    whole, *answers = _answers(original, runtime, [original.path, *damaged], cases)
    if not isinstance(whole, np.ndarray):
        raise ToolchainError(f"the original does not run: {whole}")
    return [_fate(original, runtime, found, reference, whole[-len(unseen) :]) for found in answers]


def _fate(
    original: Artifact, runtime: str, found: np.ndarray | MobileViTError, reference: Reference, expected: np.ndarray
) -> Fate:
    if isinstance(found, MobileViTError):
        return Fate("refused" if isinstance(found, ArtifactError) else "error", str(found))
    seen = len(reference.cases)
    if found.shape[1:] != reference.answers.shape[1:]:
        return Fate("failed", f"it answers {found.shape[1:]} scores")
    verdict = judge(Run(original, runtime, None, found[:seen], reference))
    if verdict.status != "passed":
        return Fate(verdict.status, verdict.reason or "")
    unseen = unseen_db(expected, found[seen:])
    return Fate("passed", "", unseen, is_another_function(unseen, original.manifest.precision))


def _answers(
    original: Artifact, runtime: str, paths: Sequence[Path], cases: Sequence[Case]
) -> list[np.ndarray | MobileViTError]:
    """The scores of each file for all `cases`, float32 [cases, num_classes], or the error that it ends in."""
    answers: list[np.ndarray | MobileViTError] = []
    refs = [dataclasses.replace(original.on(runtime), path=path) for path in paths]
    while len(answers) < len(refs):
        left = refs[len(answers) :]
        try:
            run_in_child(_answer_all, left, cases, on_event=answers.append, threads=1, timeout=TIMEOUT)
        except ToolchainError as error:  # the child died or hung over the next file
            answers.append(error)
    return answers


def _answer_all(refs: Sequence[RuntimeRef], cases: Sequence[Case]) -> None:
    """In a child process: emit each file's scores, or the error that the gate would report."""
    for ref in refs:
        try:
            loaded = ref.load()
            emit(np.stack([np.array(loaded(case.as_passed()), dtype=np.float32) for case in cases]))
        except MobileViTError as error:
            emit(error)
        except Exception as error:  # run_in_child makes a ToolchainError of it
            emit(ToolchainError(f"{type(error).__name__}: {error}"))
