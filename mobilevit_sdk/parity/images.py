"""References for a user's own images: PyTorch's answers, from the checkpoint that an artifact was made from."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import msgspec

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.artifacts.origin import source_of, task_sources_of
from mobilevit_sdk.artifacts.reference import Reference, reference_of_sizes
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.features import features_of
from mobilevit_sdk.checkpoints.load import load_as_stored
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.checkpoints.task_file import TaskFile, add_tasks, read_task, weights_sha256
from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.data.cases import image_cases
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.resize import fit_network
from mobilevit_sdk.parity.runs import ReferenceOf


def reference_for_images(images: ImageDataset | Path | str, checkpoint: Checkpoint | Path | str | None) -> ReferenceOf:
    """A callable that gives each artifact `images` in its preprocessing, with the answers of its checkpoint.

    That is `checkpoint`, or the one that the artifact's manifest names. The callable raises CheckpointError when it is
    gone or holds other weights than the artifact's. Answers are computed once for all artifacts of one checkpoint.
    """
    made: dict[bytes, Reference] = {}
    lock = threading.Lock()

    def reference(artifact: Artifact) -> Reference:
        key = msgspec.json.encode((artifact.manifest.origin, artifact.manifest.spec))
        with lock:
            if key not in made:
                spec = artifact.manifest.spec
                networks = checkpoint_of(artifact, checkpoint).networks()
                answers = reference_of_sizes(networks, spec, lambda each: image_cases(images, each, sizes=spec.sizes))
                made[key] = dataclasses.replace(answers, images=str(images))
            return made[key]

    return reference


def checkpoint_of(artifact: Artifact, source: Checkpoint | Path | str | None) -> Checkpoint:
    """The checkpoint that an artifact was made from, as the artifact has it: `source`, or the one in its manifest.

    The artifact's config and preprocessing decide, whatever now stands beside the checkpoint. Raises CheckpointError
    when it is gone or holds other weights.
    """
    origin, spec = artifact.manifest.origin, artifact.manifest.spec
    if source is None and origin.random_weights_seed is not None:
        return random_checkpoint(spec, origin.random_weights_seed)
    given = source or source_of(artifact)
    if not isinstance(given, Checkpoint):
        found = load_as_stored(given, spec)
    else:
        found = features_of(given, spec.features, scores=bool(spec.scores)) if spec.features else given
    if spec.tasks and not found.spec.tasks:
        alone, stored = msgspec.structs.replace(spec, tasks=msgspec.UNSET), weights_sha256(found.model)
        fitted = dataclasses.replace(found, model=fit_network(found.model, found.spec, alone), spec=alone)
        found = add_tasks(fitted, _tasks_of(artifact), stored_sha256=stored)
    if found.spec.tasks != spec.tasks:
        raise CheckpointError(f"the tasks of {found.source} are not those that {artifact.path} was made from")
    if found.origin.sha256 != origin.sha256:
        raise CheckpointError(
            f"{found.source} is not the checkpoint that {artifact.path} was made from (its SHA-256 differs); "
            f"give that one as `checkpoint`"
        )
    own = found.own
    network = fit_network(*own, spec)
    return dataclasses.replace(found, model=network, spec=spec, stored=own if spec.image_sizes else None)


def _tasks_of(artifact: Artifact) -> list[TaskFile]:
    """Those that its manifest names. Raises CheckpointError where one is gone, or another one."""
    tasks = [read_task(source) for source in task_sources_of(artifact)]
    for task, origin in zip(tasks, artifact.manifest.origin.tasks or (), strict=True):
        if task.version.sha256() != origin.sha256:
            raise CheckpointError(f"{task.source} is not the task that {artifact.path} was made from")
    return tasks
