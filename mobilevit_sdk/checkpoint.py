"""Checkpoints: one safe file that holds a network's weights and everything that is needed to use them."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from mobilevit_sdk import hub
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.matching import STEP_COUNT, Match, match_header, match_release
from mobilevit_sdk.reading import FileVersion
from mobilevit_sdk.registry import build_model, model_entry
from mobilevit_sdk.resize import resize_network
from mobilevit_sdk.skeleton import skeleton
from mobilevit_sdk.spec import ModelSpec, Origin
from mobilevit_sdk.tensor_file import TensorFile, is_finite, open_tensor_file
from mobilevit_sdk.text import one_line, shorten

HEADER_KEY = "mobilevit_sdk"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network in reference form and eval mode, and what is known of it."""

    model: nn.Module
    spec: ModelSpec
    layout: str  # "own", or the release whose names the file uses: "ml-cvnets", "cream", "timm", "transformers"
    source: str  # as it was asked for
    file: FileVersion | None = None  # None for random weights
    random_weights_seed: int | None = None
    notes: tuple[str, ...] = ()  # in words, what was not taken as it stands in the file

    @cached_property
    def sha256(self) -> str | None:
        """Of the weights' file, read when first asked for; None for random weights.

        Raises CheckpointError where the file has changed since it was loaded.
        """
        return None if self.file is None else self.file.sha256()

    @property
    def origin(self) -> Origin:
        """Where the weights came from, as a manifest states it."""
        return Origin(
            source=self.source, layout=self.layout, sha256=self.sha256, random_weights_seed=self.random_weights_seed
        )


def save_checkpoint(model: nn.Module, spec: ModelSpec, path: Path, *, matrix_dtype: torch.dtype | None = None) -> None:
    """Write weights and spec to one `.safetensors` file, atomically. Raises RequestError where it cannot be written.

    With `matrix_dtype`, kernels and matrices are stored in it, which halves the file for float16; biases, gains and
    statistics keep their own type.
    """
    weights = {
        name: tensor.detach().cpu().to(matrix_dtype if matrix_dtype and tensor.ndim > 1 else tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    header = {HEADER_KEY: msgspec.json.encode(spec).decode()}  # one key: safetensors keeps no order of several
    with replacing(path) as fresh:
        fresh.write_bytes(safetensors.torch.save(weights, metadata=header))


def network_sha256(model: nn.Module, spec: ModelSpec) -> str:
    """Of all that decides what a network answers: config, preprocessing and weights."""
    digest = hashlib.sha256(spec.config_sha256.encode() + msgspec.json.encode(spec.preprocessing))
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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
        file = open_source(source, model, reader)
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


def open_source(source: str | Path, model: str | None = None, reader: Executor | None = None) -> TensorFile:
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


@torch.no_grad()
def _fill(
    match: Match, read: dict[str, Tensor], num_classes: int | None, source: str
) -> tuple[nn.Module, ModelSpec, list[str]]:
    """The network with the file's weights in it, its spec, and notes. Takes the tensors out of `read`."""
    spec, notes = match.spec, list[str]()
    derived = {theirs: read.pop(match.names[theirs]) for theirs in match.derived}
    weights = _weights(match, read, source)
    if match.is_backbone:
        spec = msgspec.structs.replace(spec, config=spec.config | {"num_classes": num_classes})
        fresh = _fresh(spec, [*dict.fromkeys(match.missing.values())])
        weights |= fresh
        notes.append(f"{shorten(list(fresh))} are untrained: the file is a backbone without a classifier")
    network = match.network if match.has_buffers and not match.is_backbone else skeleton(spec)
    _assign(network, weights)
    buffers = dict(network.named_buffers())
    wrong = [theirs for theirs, tensor in derived.items() if not torch.equal(tensor, buffers[match.derived[theirs]])]
    if wrong:
        raise CheckpointError(f"{source} holds other values than the network itself derives in {shorten(wrong)}")
    return network.eval(), spec, notes


def _assign(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """`load_state_dict(weights, assign=True)` of names that are known to fit, in a third of the time."""
    modules = dict(network.named_modules())
    for name, tensor in weights.items():
        module, _, leaf = name.rpartition(".")
        is_parameter = leaf in modules[module]._parameters
        setattr(modules[module], leaf, nn.Parameter(tensor) if is_parameter else tensor)


def _weights(match: Match, read: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors of the network, as float32, out of those of the file: stacked, and their rows in our order."""
    integers = [
        name
        for ours, theirs in match.sources.items()
        for name in theirs
        if not (match.tensors[name].is_floating_point() or ours.endswith(STEP_COUNT))
    ]
    if integers:
        kind = str(match.tensors[integers[0]].dtype).removeprefix("torch.")
        raise CheckpointError(f"{source} holds {kind} weights ({shorten(integers)}), expected floating point")
    rows = match.layout.tensor_rows(match.config, match.sources)
    weights: dict[str, Tensor] = {}
    broken: list[str] = []
    spare = torch.empty(0)
    for name, theirs in match.sources.items():
        parts = [read.pop(match.names[each]) for each in theirs]  # so that nothing is in memory twice for long
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        tensor = tensor.to(torch.int64 if name.endswith(STEP_COUNT) else torch.float32)
        if name in rows:
            spare = _reorder(tensor, rows[name], spare)
        if not is_finite(tensor):
            broken += theirs
        weights[name] = tensor
    if broken:
        raise CheckpointError(
            f"{source} holds NaN or infinity in {shorten(broken)}; its training diverged or it is damaged"
        )
    return weights


def _reorder(tensor: Tensor, rows: Tensor, spare: Tensor) -> Tensor:
    """Make `tensor` what `tensor[rows]` is, without memory for a second one: to get that takes longer than the rest.

    Returns the memory that was used in between, to be given as `spare` the next time.
    """
    if spare.numel() < tensor.numel():
        spare = torch.empty(tensor.numel())
    before = spare[: tensor.numel()].view_as(tensor).numpy()
    before[:] = tensor.numpy()
    np.take(before, rows.numpy(), axis=0, out=tensor.numpy(), mode="clip")  # in one thread: see `is_finite`
    return spare


def _fresh(spec: ModelSpec, names: list[str]) -> dict[str, Tensor]:
    """These tensors of the network, as a training starts; always the same."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        state = build_model(spec).state_dict()
    return {name: state[name] for name in names}


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
