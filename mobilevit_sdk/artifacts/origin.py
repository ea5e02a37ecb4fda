"""How a manifest names the checkpoint of its artifact, without telling of the machine, and where that then lies."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.default import DEFAULT_CHECKPOINT, default_checkpoint
from mobilevit_sdk.checkpoints.hub import PREFIX
from mobilevit_sdk.checkpoints.tensor_file import FileVersion
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.spec import Origin


def origin_of(checkpoint: Checkpoint, out: Path) -> Origin:
    """The origin of artifacts in folders of `out`: a checkpoint near them by its path from there, others by name.

    Near is below the folder that holds `out`, unless that is the root: such a path names no folder above it.
    """
    origin = checkpoint.origin
    source = origin.source if checkpoint.file is None else _from_artifact(checkpoint.file, origin.source, out)
    if not origin.tasks:
        return msgspec.structs.replace(origin, source=source)
    pairs = zip(origin.tasks, checkpoint.tasks, strict=True)
    tasks = (msgspec.structs.replace(task, source=_from_artifact(file, task.source, out)) for task, file in pairs)
    return msgspec.structs.replace(origin, source=source, tasks=tuple(tasks))


def _from_artifact(file: FileVersion, source: str, out: Path) -> str:
    if source.startswith(PREFIX):
        return source
    folder = out.resolve()
    path, near = file.path.parent.resolve() / file.path.name, folder.parent
    if not path.is_relative_to(near) or near == Path(near.anchor):
        return source
    return Path(os.path.relpath(path, folder / "artifact")).as_posix()


def source_of(artifact: Artifact) -> str:
    """Where the checkpoint of an artifact is now: what `load_checkpoint` takes.

    A path in the manifest is from the artifact's folder, or from the current one. Raises CheckpointError where nothing
    is there.
    """
    origin = artifact.manifest.origin
    return _found(artifact, origin.source, origin.sha256, "the checkpoint", "give it as `checkpoint`")


def task_sources_of(artifact: Artifact) -> list[str]:
    """Where the files of an artifact's tasks are now, in their order. Raises CheckpointError where one is gone."""
    tasks = artifact.manifest.origin.tasks or ()
    remedy = "put it there, or convert again"
    return [_found(artifact, task.source, task.sha256, "a task", remedy) for task in tasks]


def _found(artifact: Artifact, source: str, sha256: str | None, what: str, remedy: str) -> str:
    if source.startswith(PREFIX):
        return source
    places = [artifact.path.parent / source, Path(source)]
    places += [default_checkpoint()] if Path(source).name == DEFAULT_CHECKPOINT else []
    found = [place for place in places if place.is_file()]
    if not found:
        raise CheckpointError(f"{source} does not exist: it is {what} that {artifact.path} was made from; {remedy}")
    return str(next((place for place in found if hash_and_size(place)[0] == sha256), found[0]))
