"""From what a user asks for to what is measured: the artifacts, and the reference of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilevit_sdk.artifacts.artifact import Artifact, ArtifactLike, find_artifact, find_artifacts
from mobilevit_sdk.bench.baselines import BASELINES, prepare
from mobilevit_sdk.bench.candidates import Candidate, candidates_of, question_of
from mobilevit_sdk.bench.machine import usable_cores
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.parity.images import checkpoint_of
from mobilevit_sdk.progress import Progress, Step, silent


@dataclass(frozen=True)
class Plan:
    """Candidates in the order of the table, and for each the reference that its ratio is over."""

    candidates: list[Candidate]
    against: dict[Candidate, Candidate]


def plan(
    artifacts: Sequence[ArtifactLike],
    against: ArtifactLike | None,
    checkpoint: Checkpoint | Path | str | None,
    folder: Path,
    progress: Progress = silent,
) -> Plan:
    """Find the artifacts and their reference: another artifact, a baseline, or the first of them.

    A baseline is made in `folder`, once for each checkpoint, from where the artifact came from or from `checkpoint`;
    `progress` hears of it before. Raises ArtifactError, RequestError for an unknown reference, CheckpointError where
    the checkpoint is not found, and ToolchainError where the baseline cannot be made here.
    """
    baseline_of = BASELINES.get(against) if isinstance(against, str) else None
    references = [] if against is None or baseline_of else [_reference(against)]
    opened = find_artifacts([*references, *artifacts])
    of_artifacts = {artifact.path: candidates_of(artifact) for artifact in opened}
    measured = [candidate for candidates in of_artifacts.values() for candidate in candidates]
    if baseline_of is None:
        return Plan(measured, dict.fromkeys(measured, measured[0]))
    baselines: list[tuple[Artifact, Candidate]] = []
    held: dict[Candidate, Candidate] = {}
    for artifact in opened:
        baseline = next((made for other, made in baselines if _same_network(other, artifact)), None)
        if baseline is None:
            progress(Step(f"making {against} of {artifact.manifest.origin.source}"))
            found = checkpoint_of(artifact, checkpoint)
            prepared = prepare(baseline_of, found, folder / str(len(baselines)))
            baseline = prepared.candidate(question_of(artifact))
            baselines.append((artifact, baseline))
            held[baseline] = baseline
        held |= dict.fromkeys(of_artifacts[artifact.path], baseline)
    return Plan([*(made for _, made in baselines), *measured], held)


def thread_counts(requested: Sequence[int] = ()) -> list[int]:
    """The requested numbers of threads, each once; by default one, and all cores. Raises RequestError."""
    cores = usable_cores()
    for number in requested:
        if not 1 <= number <= cores:
            raise RequestError(f"`threads` takes numbers from 1 to {cores}, the cores of this machine, not {number}")
    return list(dict.fromkeys(requested)) or sorted({1, cores})


def _reference(against: ArtifactLike) -> Artifact:
    """The artifact that a user names as the reference."""
    if not isinstance(against, Artifact) and not Path(against).exists():
        name = str(against)
        raise RequestError(f"{name!r} is neither an artifact nor a known reference; {suggest(name, BASELINES)}")
    return find_artifact(against)


def _same_network(one: Artifact, other: Artifact) -> bool:
    return one.manifest.origin == other.manifest.origin and one.manifest.spec == other.manifest.spec
