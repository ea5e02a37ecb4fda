"""Steps 3 and 4: build the network that a file fits on the meta device, and fill it with the tensors of the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.match import STEP_COUNT, Match
from mobilevit_sdk.checkpoints.tensor_file import TensorFile
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.models.meta_model import build_on_meta, tensor_shapes
from mobilevit_sdk.models.registry import build_model, model_entry
from mobilevit_sdk.spec import Features, ModelSpec
from mobilevit_sdk.text import shorten

_MAX_LINES = 4  # of notes on a config; more become one
_GRAY = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as Pillow's mode L has it


def fill(
    file: TensorFile,
    match: Match,
    num_classes: int | None = None,
    features: Features | None = None,
    *,
    scores: bool = False,
) -> Checkpoint:
    """The network of `match` in eval mode, with the tensors of `file` as float32.

    With `features` the network returns those, and the classifier is not needed, nor kept; with `scores`, too, it
    returns both.

    `num_classes` is what the caller insists on; a backbone without a classifier gets a fresh, untrained one for as many
    classes. Raises CheckpointError for another class count than the file's, for a backbone without one, and for values
    that are not finite floating point numbers, variances below 0, or not those that the network itself derives.
    """
    if features is None or scores:
        _check_classes(match, num_classes, file.source)
    channels = match.options.get("in_channels", 3)
    if channels not in (1, 3):
        raise CheckpointError(f"{file.source} takes images of {channels} channels; this SDK feeds RGB or gray ones")
    spec, notes = match.spec, [*file.notes, *match_notes(match, file.tensors)]
    weights = _weights(match, file)
    if features is not None and scores:
        spec = spec.with_features(features, scores=True)
    elif features is not None:
        spec, weights, left_out = _for_features(match, spec, weights, features, file.source)
        notes += left_out
    elif match.is_backbone:
        spec = msgspec.structs.replace(spec, config=spec.config | {"num_classes": num_classes})
        fresh = _fresh(spec, [*dict.fromkeys(match.missing.values())])
        weights |= fresh
        notes.append(f"{shorten(list(fresh))} are untrained: the file is a backbone without a classifier")
    if _takes_gray(match):
        spec, weights = _with_rgb_input(spec, weights)
    network = build_on_meta(spec)
    if match.neutral_norm:
        weights |= _neutral(match.neutral_norm, network)
    network.load_state_dict(weights, strict=False, assign=True)  # step counts may be missing; all else is known to fit
    _check_derived(network, match, file)
    return Checkpoint(network.eval(), spec, match.key_map.release, file.source, file.version, notes=tuple(notes))


def _check_classes(match: Match, num_classes: int | None, source: str) -> None:
    if match.is_backbone and num_classes is None:
        raise CheckpointError(
            f"{source} has no classifier ({match.classifier}): it is the backbone of {match.spec.model} of "
            f"{match.key_map.release}; give a checkpoint that was trained to classify, `features=pooled` "
            f"or `features=map` for what it computes, or a class count (`num_classes`) for a fresh head to train"
        )
    if not match.is_backbone and num_classes not in (None, match.spec.num_classes):
        raise CheckpointError(
            f"{source} has a head for {match.spec.num_classes} classes ({match.classifier}), but {num_classes} "
            f"were asked for"
        )


def _for_features(
    match: Match, spec: ModelSpec, weights: dict[str, Tensor], features: Features, source: str
) -> tuple[ModelSpec, dict[str, Tensor], list[str]]:
    """The spec of the network that returns features, its weights, and notes on what of the file it does without."""
    spec, notes = spec.with_features(features, scores=False), []
    needed = tensor_shapes(spec)
    lacking = [name for name in needed if name not in weights and not name.endswith(STEP_COUNT)]
    if lacking and all(name.startswith("final_conv.") for name in lacking):  # encoders of other tasks end before it
        spec = msgspec.structs.replace(spec, config=spec.config | {"final_channels": 0})
        needed, lacking = tensor_shapes(spec), []
        notes.append(
            "the file ends before the last convolution of the classifier: features are those of its last stage"
        )
    if lacking:
        raise CheckpointError(
            f"{source} lacks {shorten(lacking)}, which the features of {spec.model} are computed with"
        )
    left_out = [name for name in weights if name not in needed]
    if left_out:
        notes.append(f"{shorten(left_out)} are left out: the network returns features ({features}), no class scores")
    return spec, {name: weights[name] for name in needed if name in weights}, notes


def match_notes(match: Match, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """What of a file is not taken as it stands in it."""
    yield from match.notes
    changed: list[tuple[str, Any, Any]] = []
    if match.options:  # of a registered model; our own files may name others
        registered = msgspec.to_builtins(model_entry(match.spec.model).config)
        for name, value in match.options.items():
            changed += _differing(name, msgspec.to_builtins(value), registered.get(name, "none"))
    if len(changed) > _MAX_LINES:
        values = [f"{path} {_plain(own)} ({_plain(theirs)})" for path, own, theirs in changed]
        yield f"widths are read from the shapes, those of {match.spec.model} in brackets: {shorten(values, 8)}"
    else:
        for path, own, theirs in changed:
            yield f"{path} is {_plain(own)}, in {match.spec.model} {_plain(theirs)}"
    if _takes_gray(match):
        yield (
            "the network takes one gray channel: its first convolution was widened to take RGB, of which it makes gray "
            f"by {', '.join(map(str, _GRAY))}"
        )
    if match.lacks_counts:
        yield f"BatchNorm's step counts ({STEP_COUNT}) are not in the file and start at 0"
    if match.derived:
        yield f"{len(match.derived)} tensors agree with what the network derives and are not kept: " + shorten(
            list(match.derived)
        )
    kinds = Counter(
        _kind(tensors[match.names[name]])
        for ours, theirs in match.sources.items()
        for name in theirs
        if not ours.endswith(STEP_COUNT)
    )
    for kind, count in kinds.items():
        if kind != "float32":
            yield f"{count} {kind} tensors became float32"


def _differing(path: str, own: Any, registered: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where plain data differs: the path, and both values there."""
    if isinstance(own, dict) and isinstance(registered, dict):
        for key in own:
            if own[key] != registered.get(key):
                yield from _differing(f"{path}.{key}", own[key], registered.get(key))
    elif isinstance(own, list | tuple) and any(isinstance(each, dict) for each in own):
        for index, (one, other) in enumerate(zip(own, registered, strict=True)):
            if one != other:
                yield from _differing(f"{path}.{index}", one, other)
    else:
        yield path, own, registered


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _takes_gray(match: Match) -> bool:
    return match.options.get("in_channels") == 1


def _with_rgb_input(spec: ModelSpec, weights: dict[str, Tensor]) -> tuple[ModelSpec, dict[str, Tensor]]:
    """The same network on RGB: a convolution of a weighted sum of channels is a convolution of the channels.

    Its answers are those on the gray image, whose pixels are not rounded to integers here. Mean and std become one
    number for all channels, their average, as timm has it for networks of one channel.
    """
    wide = msgspec.structs.replace(spec, config=spec.config | {"in_channels": 3})
    narrow_shapes, wide_shapes = tensor_shapes(spec), tensor_shapes(wide)
    (name,) = [name for name, shape in wide_shapes.items() if shape != narrow_shapes[name]]
    order = _GRAY if spec.preprocessing.channel_order == "rgb" else _GRAY[::-1]
    widened = weights[name] * torch.tensor(order).view(1, 3, 1, 1)
    mean, std = (sum(values) / 3 for values in (spec.preprocessing.mean, spec.preprocessing.std))
    preprocessing = msgspec.structs.replace(spec.preprocessing, mean=(mean,) * 3, std=(std,) * 3)
    return msgspec.structs.replace(wide, preprocessing=preprocessing), weights | {name: widened}


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _weights(match: Match, file: TensorFile) -> dict[str, Tensor]:
    """The tensors of the network, as float32, out of those of the file: stacked, and their rows in our order."""
    rows = match.key_map.tensor_rows(match.config, match.sources)
    weights: dict[str, Tensor] = {}
    broken: list[str] = []
    negative: list[str] = []
    for name, theirs in match.sources.items():
        parts = [file.tensors[match.names[each]] for each in theirs]
        is_count = name.endswith(STEP_COUNT)
        integers = [(each, part) for each, part in zip(theirs, parts, strict=True) if not part.is_floating_point()]
        if integers and not is_count:
            each, part = integers[0]
            raise CheckpointError(f"{file.source} holds {_kind(part)} weights ({each}), expected floating point")
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        tensor = tensor.to(torch.int64 if is_count else torch.float32)
        weights[name] = tensor[rows[name]] if name in rows else tensor
        if not is_finite(tensor):
            broken += theirs
        elif name.endswith("running_var") and bool((weights[name] < 0).any()):
            negative += theirs
    if negative:
        raise CheckpointError(
            f"{file.source} holds variances below 0 in {shorten(negative)}: no training makes those; it is damaged, or "
            f"its weights were edited"
        )
    if broken:
        raise CheckpointError(
            f"{file.source} holds NaN or infinity in {shorten(broken)}; its training diverged or it is damaged"
        )
    return weights


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are. Their sum is fast to make and says so, unless it overflows itself."""
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())


def _check_derived(network: nn.Module, match: Match, file: TensorFile) -> None:
    buffers = dict(network.named_buffers())
    wrong = [
        theirs
        for theirs, ours in match.derived.items()
        if not torch.equal(file.tensors[match.names[theirs]], buffers[ours])
    ]
    if wrong:
        raise CheckpointError(f"{file.source} holds other values than the network itself derives in {shorten(wrong)}")


def _neutral(name: str, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a BatchNorm that gives back its input, by their names in the network."""
    norm = network.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm1d)
    ones, zeros = torch.ones(norm.num_features), torch.zeros(norm.num_features)
    values = {"weight": ones, "bias": zeros, "running_mean": zeros.clone(), "running_var": ones - norm.eps}
    return {f"{name}.{leaf}": value for leaf, value in values.items()}


def _fresh(spec: ModelSpec, names: list[str]) -> dict[str, Tensor]:
    """These tensors of the network, as a training starts; always the same."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        state = build_model(spec).state_dict()
    return {name: state[name] for name in names}
