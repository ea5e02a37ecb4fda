"""How a manifest names the checkpoint of its artifact, without telling of the machine, and where that then lies."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.default import DEFAULT_CHECKPOINT, default_checkpoint
from mobilevit_sdk.checkpoints.hub import PREFIX
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import hash_and_size
from mobilevit_sdk.spec import Origin


def origin_of(checkpoint: Checkpoint, out: Path) -> Origin:
    """The origin of artifacts in folders of `out`: a checkpoint near them by its path from there, others by name.

    Near is below the folder that holds `out`, unless that is the root: such a path names no folder above it.
    """
    origin = checkpoint.origin
    if checkpoint.file is None or origin.source.startswith(PREFIX):
        return origin
    file, folder = checkpoint.file.path, out.resolve()
    path, near = file.parent.resolve() / file.name, folder.parent
    if not path.is_relative_to(near) or near == Path(near.anchor):
        return origin
    from_artifact = os.path.relpath(path, folder / "artifact")
    return msgspec.structs.replace(origin, source=Path(from_artifact).as_posix())


def source_of(artifact: Artifact) -> str:
    """Where the checkpoint of an artifact is now: what `load_checkpoint` takes.

    A path in the manifest is from the artifact's folder, or from the current one. Raises CheckpointError where nothing
    is there.
    """
    origin = artifact.manifest.origin
    if origin.source.startswith(PREFIX):
        return origin.source
    places = [artifact.path.parent / origin.source, Path(origin.source)]
    places += [default_checkpoint()] if Path(origin.source).name == DEFAULT_CHECKPOINT else []
    found = [place for place in places if place.is_file()]
    if not found:
        raise CheckpointError(
            f"{origin.source} does not exist: it is the checkpoint that {artifact.path} was made from; give it as "
            f"`checkpoint`"
        )
    return str(next((place for place in found if hash_and_size(place)[0] == origin.sha256), found[0]))
