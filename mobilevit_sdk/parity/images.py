"""References for a user's own images: PyTorch's answers from the checkpoint that an artefact was made of."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import msgspec

from mobilevit_sdk.artifact import Artifact, Reference
from mobilevit_sdk.checkpoint import Checkpoint, load_checkpoint
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.parity.cases import image_cases, reference_of
from mobilevit_sdk.parity.runs import ReferenceOf
from mobilevit_sdk.resize import resize_network
from mobilevit_sdk.source import random_checkpoint


def reference_for_images(images: Path, checkpoint: str | None) -> ReferenceOf:
    """For each artefact, `images` preprocessed as it says, answered by its checkpoint or by `checkpoint`.

    The callable raises CheckpointError when the checkpoint is gone or holds other weights than the artefact's. It
    answers once for all artefacts of one checkpoint, whichever thread asks first.
    """
    made: dict[bytes, Reference] = {}
    lock = threading.Lock()

    def reference(artifact: Artifact) -> Reference:
        key = msgspec.json.encode((artifact.manifest.origin, artifact.manifest.spec))
        with lock:
            if key not in made:
                preprocessing = artifact.manifest.spec.preprocessing
                model = checkpoint_of(artifact, checkpoint).model
                made[key] = reference_of(model, preprocessing, image_cases(images, preprocessing))
            return made[key]

    return reference


def checkpoint_of(artifact: Artifact, source: str | None) -> Checkpoint:
    """The checkpoint that an artefact was made of, at the artefact's image size: from `source`, or from where it was.

    Raises CheckpointError when it is gone or holds other weights.
    """
    origin, spec = artifact.manifest.origin, artifact.manifest.spec
    if source is None and origin.random_weights_seed is not None:
        return random_checkpoint(spec, origin.random_weights_seed)
    found = load_checkpoint(source or origin.source, model=spec.model)
    if found.origin.sha256 != origin.sha256:
        raise CheckpointError(
            f"{found.origin.source} is not the checkpoint that {artifact.path} was made of (its SHA-256 differs); "
            f"give that one with --checkpoint"
        )
    network, _ = resize_network(found.model, found.spec, *spec.preprocessing.image_size)
    return dataclasses.replace(found, model=network, spec=spec)
