"""load."""

from __future__ import annotations

import dataclasses
import gc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from mobilevit_sdk.checkpoints import hub
from mobilevit_sdk.checkpoints.checkpoint import HEADER_KEY, Checkpoint
from mobilevit_sdk.checkpoints.fill import _fill
from mobilevit_sdk.checkpoints.matching import STEP_COUNT, Match, match_header, match_release
from mobilevit_sdk.checkpoints.safetensors_file import TensorFile, open_tensor_file
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.registry import model_entry
from mobilevit_sdk.models.resize import resize_network
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.text import one_line, shorten


def load_checkpoint(
    source: str | Path, *, model: str | None = None, num_classes: int | None = None, image_size: int | None = None
) -> Checkpoint:
    """Load our own or a public checkpoint: a local file (`.safetensors`, `.pth`, `.pt`, `.bin`) or `hf-hub:org/name`.

    Our own files say what they hold; in others, names tell the release and shapes the variant. Files named as on the
    hub are read with the `config.json` and `preprocessor_config.json` beside them. Weights become float32. Of several
    weights in a training checkpoint the averaged ones (EMA) are taken. Nothing in a file is executed. What was not
    taken as it stands is said in `notes`.

    `model` is the variant that the file is held against, instead of all. `num_classes` is what the caller insists on;
    a backbone without a classifier gets a fresh, untrained one for as many classes. `image_size` (pixels, square) is
    what the network is brought to, with windows and position biases that follow. Raises CheckpointError when the file
    is missing, broken or unsafe, or does not hold every tensor of one network and no other.
    """
    with _no_garbage_collection(), ThreadPoolExecutor(1) as reader:
        file = open_tensors(source, model, reader)
        match = identify(file, model)
        if match.is_backbone and num_classes is None:
            raise CheckpointError(
                f"{source} has no classifier ({match.classifier}): it is the backbone of {match.spec.model} of "
                f"{match.layout.release}; give a checkpoint that was trained to classify, or a class count "
                f"(--num-classes) for a fresh head to train"
            )
        if not match.is_backbone and num_classes not in (None, match.spec.num_classes):
            raise CheckpointError(
                f"{source} has a head for {match.spec.num_classes} classes ({match.classifier}), but {num_classes} "
                f"were asked for"
            )
        network, spec, untrained = _fill(match, file.values(), num_classes, str(source))
    notes = [*file.notes, *match_notes(match), *untrained]
    if image_size is not None:
        before = spec
        network, spec = resize_network(network, spec, image_size, image_size)
        if spec.config != before.config:
            notes.append(f"windows and position biases were brought to {image_size}x{image_size} pixels")
    return Checkpoint(network, spec, match.layout.release, str(source), file.version, notes=tuple(notes))


def load_weights(path: Path, spec: ModelSpec) -> nn.Module:
    """The network of `spec` in eval mode, with the weights of a file that `save_checkpoint` wrote; nothing is guessed.

    Raises CheckpointError when the file is missing, broken or unsafe, or does not hold every tensor of that network and
    no other, and RequestError when `spec` describes no network.
    """
    with _no_garbage_collection(), ThreadPoolExecutor(1) as reader:
        file = open_tensor_file(path, str(path), reader)
        match = match_header(spec, file.tensors)
        if match.problems:
            raise CheckpointError(f"{path} does not hold the weights of this {spec.model}: {match.describe()}")
        network, _, _ = _fill(match, file.values(), None, str(path))
    return network


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A load makes thousands of objects that stay: to look for garbage among them takes longer than to make them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def open_tensors(source: str | Path, model: str | None = None, reader: Executor | None = None) -> TensorFile:
    """Names and shapes of a local file or of `hf-hub:org/name`; `reader` begins to read the values.

    Raises CheckpointError as `load_checkpoint` does.
    """
    name = str(source)
    if model is not None:
        model_entry(model)
    path = hub.download(name) if name.startswith(hub.PREFIX) else Path(source)
    return open_tensor_file(path, name, reader)


def identify(file: TensorFile, model: str | None = None) -> Match:
    """What a file holds, by names, types and shapes alone: a network, or a backbone without its classifier.

    Raises CheckpointError as `load_checkpoint` does, but not for values.
    """
    if HEADER_KEY in file.metadata:
        return _match_own(file, model)
    match = match_release(file.tensors, model, file.version.source)
    return dataclasses.replace(match, spec=_describe(match, file.version.path, file.version.source))


def _match_own(file: TensorFile, model: str | None) -> Match:
    """Hold the tensors against the spec in the header."""
    source = file.version.source
    try:
        spec = msgspec.json.decode(file.metadata[HEADER_KEY], type=ModelSpec)
        if spec.num_classes < 1:
            raise ValueError("its head has no classes")
        match = match_header(spec, file.tensors)
    except Exception as error:  # a strange config can make any layer's constructor fail in its own way
        reason = f"its config lacks {error}" if isinstance(error, KeyError) else one_line(str(error))
        raise CheckpointError(f"{source} has a header that describes no network of ours: {reason}") from error
    if model not in (None, spec.model):
        raise CheckpointError(f"{source} holds {spec.model}, not {model}")
    if match.problems:
        raise CheckpointError(f"{source} does not hold the network of its own header: {match.describe()}")
    return match


def _describe(match: Match, path: Path, source: str) -> ModelSpec:
    """The spec of a public checkpoint, with what stands beside it where it lies as on the hub."""
    labels, preprocessing = None, match.spec.preprocessing
    if path.name in hub.WEIGHTS:
        labels = None if match.is_backbone else hub.read_labels(path.parent, match.spec.num_classes, source)
        preprocessing = hub.read_preprocessing(path.parent, preprocessing, source)
    provenance = {"source": source if source.startswith(hub.PREFIX) else path.name, "layout": match.layout.release}
    return msgspec.structs.replace(match.spec, labels=labels, preprocessing=preprocessing, provenance=provenance)


def match_notes(match: Match) -> Iterator[str]:
    """What was not taken as it stands in the file."""
    for name, value in match.options.items():
        registered = getattr(model_entry(match.spec.model).config, name)
        yield f"{name} is {_plain(value)}, in {match.spec.model} {_plain(registered)}"
    if match.lacks_counts:
        yield f"BatchNorm's step counts ({STEP_COUNT}) are not in the file and start at 0"
    if match.derived:
        yield f"{len(match.derived)} tensors agree with what the network derives and are not kept: " + shorten(
            list(match.derived)
        )
    kinds = Counter(
        str(match.tensors[name].dtype).removeprefix("torch.")
        for ours, theirs in match.sources.items()
        for name in theirs
        if not ours.endswith(STEP_COUNT)
    )
    for kind, count in kinds.items():
        if kind != "float32":
            yield f"{count} {kind} tensors became float32"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
