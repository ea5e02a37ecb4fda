"""Checkpoints: one safe file that holds a network's weights and everything that is needed to use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import safetensors.torch
import torch
from torch import Tensor, nn

from mobilevit_sdk import hub
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import hash_and_size, replacing
from mobilevit_sdk.layouts import (
    Match,
    all_layouts,
    compare,
    match_variants,
    nearest_layout,
    own_layout,
    tensor_shapes,
)
from mobilevit_sdk.registry import build_model, model_entry
from mobilevit_sdk.resize import resize_network
from mobilevit_sdk.spec import ModelSpec, Origin
from mobilevit_sdk.tensor_file import one_line, read_tensor_file, shorten

HEADER_KEY = "mobilevit_sdk"
_KNOWN_SHARE = 0.25  # of names in common with the nearest layout, below which a file is of some other network


@dataclass(frozen=True)
class Checkpoint:
    """A trained network in reference form and eval mode, and what is known of it."""

    model: nn.Module
    spec: ModelSpec
    layout: str  # "own", or the release whose names the file uses: "ml-cvnets", "timm", "transformers"
    source: str  # as it was asked for
    sha256: str | None  # of the weights' file; None for random weights
    random_weights_seed: int | None = None

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


def load_checkpoint(
    source: str | Path, *, model: str | None = None, num_classes: int | None = None, image_size: int | None = None
) -> Checkpoint:
    """Load our own or a public checkpoint: a local file (`.safetensors`, `.pth`, `.pt`, `.bin`) or `hf-hub:org/name`.

    Our own files say what they hold; in others, names tell the release and shapes the variant. Files named as on the
    hub are read with the `config.json` and `preprocessor_config.json` beside them. Weights become float32. Of several
    weights in a training checkpoint the averaged ones (EMA) are taken. Nothing in a file is executed.

    `model` and `num_classes` are what the caller insists on; `image_size` (pixels, square) is what the network is
    brought to, with windows and position biases that follow. Raises CheckpointError when the file is missing, broken or
    unsafe, when it does not hold every tensor of one network and no other, or when it holds another model or head.
    """
    name = str(source)
    if model is not None:
        model_entry(model)
    path = hub.download(name) if name.startswith(hub.PREFIX) else Path(source)
    file = read_tensor_file(path, name)
    sha256, _ = hash_and_size(path)
    if HEADER_KEY in file.metadata:
        match = _match_own(file.metadata[HEADER_KEY], file.tensors, model, name)
        spec = match.spec
    else:
        match = _match_release(file.tensors, model, name)
        spec = _describe(match, path, name, sha256)
    if num_classes is not None and num_classes != spec.num_classes:
        raise CheckpointError(
            f"{name} has a head for {spec.num_classes} classes ({match.classifier}), but {num_classes} were asked for"
        )
    network = _fill(match, name)
    if image_size is not None:
        network, spec = resize_network(network, spec, image_size, image_size)
    return Checkpoint(network, spec, match.layout.release, name, sha256)


def _match_own(header: str, tensors: dict[str, Tensor], model: str | None, source: str) -> Match:
    """Hold the tensors against the spec in the header."""
    try:
        spec = msgspec.json.decode(header, type=ModelSpec)
        shapes = tensor_shapes(spec)
        if spec.num_classes < 1:
            raise ValueError("its head has no classes")
    except Exception as error:  # a strange config can make any layer's constructor fail in its own way
        reason = f"its config lacks {error}" if isinstance(error, KeyError) else one_line(str(error))
        raise CheckpointError(f"{source} has a header that describes no network of ours: {reason}") from error
    if model not in (None, spec.model):
        raise CheckpointError(f"{source} holds {spec.model}, not {model}")
    layout = own_layout(spec.family)
    match = compare(layout, spec, shapes, layout.sources(spec.config, shapes), tensors)
    if match.problems:
        raise CheckpointError(f"{source} does not hold the network of its own header: {match.describe()}")
    return match


def _match_release(tensors: dict[str, Tensor], model: str | None, source: str) -> Match:
    """Find the release and the variant that explain every tensor."""
    layout, share = nearest_layout(tensors)
    tried = ", ".join(f"{each.release} ({each.family})" for each in all_layouts())
    if share < _KNOWN_SHARE:
        found = f"{len(tensors)} tensors ({shorten(list(tensors))})" if tensors else "no tensors"
        raise CheckpointError(f"{source} is of no network known here: it holds {found}; layouts tried: {tried}")
    matches = sorted(match_variants(layout, tensors), key=lambda match: (match.problems, match.spec.model != model))
    best = matches[0]
    if best.problems == 0:
        if model not in (None, best.spec.model):
            raise CheckpointError(f"{source} holds {best.spec.model}, not {model}")
        return best
    if best.lacks_only_classifier:
        raise CheckpointError(
            f"{source} has no classifier ({best.classifier}): it is the backbone of {best.spec.model} of "
            f"{layout.release}; give a checkpoint that was trained to classify"
        )
    asked = next((match for match in matches if match.spec.model == model), best)
    raise CheckpointError(
        f"{source} is nearest to {asked.spec.model} of {layout.release} but does not fit: {asked.describe()}; "
        f"layouts tried: {tried}"
    )


def _describe(match: Match, path: Path, source: str, sha256: str) -> ModelSpec:
    """The spec of a public checkpoint, with what stands beside it where it lies as on the hub."""
    labels, preprocessing = None, match.spec.preprocessing
    if path.name in hub.WEIGHTS:
        labels = hub.read_labels(path.parent, match.spec.num_classes, source)
        preprocessing = hub.read_preprocessing(path.parent, preprocessing, source)
    provenance = {"source": source if source.startswith(hub.PREFIX) else path.name, "sha256": sha256}
    return msgspec.structs.replace(
        match.spec,
        labels=labels,
        preprocessing=preprocessing,
        provenance=provenance | {"layout": match.layout.release},
    )


def _fill(match: Match, source: str) -> nn.Module:
    """The network of a match, with the file's weights in it."""
    integers = [
        name
        for theirs in match.sources.values()
        for name in theirs
        if not (match.tensors[name].is_floating_point() or name.endswith("num_batches_tracked"))
    ]
    if integers:
        kind = str(match.tensors[integers[0]].dtype).removeprefix("torch.")
        raise CheckpointError(f"{source} holds {kind} weights ({shorten(integers)}), expected floating point")
    weights = {
        name: torch.cat([match.tensors[each] for each in theirs]) if len(theirs) > 1 else match.tensors[theirs[0]]
        for name, theirs in match.sources.items()
    }
    network = build_model(match.spec)
    network.load_state_dict(weights)  # BatchNorm itself sets a step count that is missing to 0
    broken = [name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{source} holds NaN or infinity in {shorten(broken)}; its training diverged or it is damaged"
        )
    return network.eval()
