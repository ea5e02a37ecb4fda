"""From a file to a network in four steps: read, identify, build on the meta device, fill."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.default import default_checkpoint
from mobilevit_sdk.checkpoints.fill import fill
from mobilevit_sdk.checkpoints.identify import identify, match_spec
from mobilevit_sdk.checkpoints.tensor_file import read_tensors
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.registry import list_models, model_entry
from mobilevit_sdk.models.resize import resize_network
from mobilevit_sdk.spec import ModelSpec

# A checkpoint that was loaded, a local file, `hf-hub:org/name`, or None for the one that ships with the package.
CheckpointLike = Checkpoint | str | Path | None


def load_checkpoint(
    source: str | Path | None = None,
    *,
    model: str | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
) -> Checkpoint:
    """Load our own or a public checkpoint: a local file (`.safetensors`, `.pth`, `.pt`, `.bin`) or `hf-hub:org/name`.

    Without a `source`, it is the trained checkpoint that ships with the package.

    Our own files say what they hold; in others, names tell the release and shapes the variant. Files named as on the
    hub are read with the `config.json` and `preprocessor_config.json` beside them. Weights become float32. Of several
    weights in a training checkpoint the averaged ones (EMA) are taken. Nothing in a file is executed. What was not
    taken as it stands is said in `notes`.

    `model` is the only variant that the file may hold. `num_classes` is what the caller insists on; a backbone without
    a classifier gets a fresh, untrained one for as many classes. `image_size` (pixels, square) is what the network is
    brought to, with windows and position biases that follow. Raises CheckpointError when the file is missing, broken
    or unsafe, or does not hold every tensor of one network and no other, and RequestError for an unknown `model` and
    an image size that the network does not take.
    """
    if model is not None:
        model_entry(model)
    source = default_checkpoint() if source is None else source
    if str(source) in list_models() and not Path(source).exists():
        raise CheckpointError(
            f"{source} is a model's name, not a checkpoint: give a file of its weights, or hf-hub:org/name"
        )
    file = read_tensors(source)
    match = identify(file, model)
    checkpoint = fill(file, match, num_classes)
    return checkpoint if image_size is None else _resize(checkpoint, image_size)


def as_checkpoint(given: CheckpointLike) -> Checkpoint:
    """What was given where a checkpoint is meant, loaded by `load_checkpoint` unless it is loaded already."""
    return given if isinstance(given, Checkpoint) else load_checkpoint(given)


def load_weights(path: Path, spec: ModelSpec) -> nn.Module:
    """The network of `spec` in eval mode, with the weights of a file that `save_checkpoint` wrote; nothing is guessed.

    Raises CheckpointError when the file is missing, broken or unsafe, or does not hold every tensor of that network and
    no other, and RequestError when `spec` describes no network.
    """
    file = read_tensors(path)
    match = match_spec(spec, file.tensors)
    if match.problems:
        raise CheckpointError(f"{path} does not hold the weights of this {spec.model}: {match.describe()}")
    return fill(file, match).model


def _resize(checkpoint: Checkpoint, side: int) -> Checkpoint:
    network, spec = resize_network(checkpoint.model, checkpoint.spec, side, side)
    notes = checkpoint.notes
    if spec.config != checkpoint.spec.config:
        notes = (*notes, f"windows and position biases were brought to {side}x{side} pixels")
    return dataclasses.replace(checkpoint, model=network, spec=spec, notes=notes)
