"""From what a user asks for to what is measured: the artifacts, and the reference of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilevit_sdk.artifacts.artifact import Artifact, find_artifacts
from mobilevit_sdk.bench.baselines import BASELINES, prepare
from mobilevit_sdk.bench.candidates import Candidate, candidates_of, question_of
from mobilevit_sdk.bench.machine import usable_cores
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.parity.images import checkpoint_of
from mobilevit_sdk.progress import Progress, Step, silent


@dataclass(frozen=True)
class Plan:
    """Candidates in the order of the table, and for each the reference that its ratio is over."""

    candidates: list[Candidate]
    against: dict[Candidate, Candidate]


def plan(
    artifacts: Sequence[Path],
    against: str | None,
    checkpoint: str | None,
    folder: Path,
    progress: Progress = silent,
) -> Plan:
    """Find the artifacts and their reference: another artifact, a baseline, or the first of them.

    A baseline is made in `folder`, once for each checkpoint, from where the artifact came from or from `checkpoint`;
    `progress` hears of it before. Raises ArtifactError, RequestError for an unknown reference, CheckpointError where
    the checkpoint is not found, and ToolchainError where the baseline cannot be made here.
    """
    references = [] if against is None or against in BASELINES else [_the_one_at(against)]
    opened = find_artifacts([*references, *artifacts])
    of_artifacts = {artifact.path: candidates_of(artifact) for artifact in opened}
    measured = [candidate for candidates in of_artifacts.values() for candidate in candidates]
    if against not in BASELINES:
        return Plan(measured, dict.fromkeys(measured, measured[0]))
    baselines: list[tuple[Artifact, Candidate]] = []
    held: dict[Candidate, Candidate] = {}
    for artifact in opened:
        baseline = next((made for other, made in baselines if _same_network(other, artifact)), None)
        if baseline is None:
            progress(Step(f"making {against} of {artifact.manifest.origin.source}"))
            found = checkpoint_of(artifact, checkpoint)
            prepared = prepare(BASELINES[against], found, folder / str(len(baselines)))
            baseline = prepared.candidate(question_of(artifact))
            baselines.append((artifact, baseline))
            held[baseline] = baseline
        held |= dict.fromkeys(of_artifacts[artifact.path], baseline)
    return Plan([*(made for _, made in baselines), *measured], held)


def thread_counts(asked: Sequence[str]) -> list[int]:
    """Numbers of threads from what a user wrote; by default one, and all cores. Raises RequestError."""
    cores = usable_cores()
    if not asked:
        return sorted({1, cores})
    wrong = [each for each in asked if not each.isdecimal() or not 1 <= int(each) <= cores]
    if wrong:
        raise RequestError(f"--threads takes numbers from 1 to {cores}, the cores of this machine, not {wrong[0]!r}")
    return list(dict.fromkeys(int(each) for each in asked))


def _the_one_at(path: str) -> Path:
    """The folder of the artifact that a user names as the reference."""
    if not Path(path).exists():
        raise RequestError(f"{path!r} is neither an artifact nor a known reference; {suggest(path, BASELINES)}")
    found = [artifact.path.parent for artifact in find_artifacts([Path(path)])]
    if len(found) > 1:
        raise RequestError(f"{path} holds {len(found)} artifacts; give one of them, such as {found[0]}")
    return found[0]


def _same_network(one: Artifact, other: Artifact) -> bool:
    return one.manifest.origin == other.manifest.origin and one.manifest.spec == other.manifest.spec
