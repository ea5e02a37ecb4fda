"""From a file to a network in four steps: read, identify, build on the meta device, fill."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
from torch import nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.default import default_checkpoint
from mobilevit_sdk.checkpoints.features import without_other_head
from mobilevit_sdk.checkpoints.fill import fill
from mobilevit_sdk.checkpoints.identify import identify, match_spec
from mobilevit_sdk.checkpoints.own_config import with_own_config
from mobilevit_sdk.checkpoints.preparation import AS_STATED, Preparation
from mobilevit_sdk.checkpoints.task_file import TaskFile, add_tasks, refuse_task, weights_sha256
from mobilevit_sdk.checkpoints.tensor_file import TensorFile, read_tensors
from mobilevit_sdk.errors import CheckpointError, RequestError
from mobilevit_sdk.files import is_there
from mobilevit_sdk.models.registry import list_models, model_entry
from mobilevit_sdk.models.resize import fit_network
from mobilevit_sdk.spec import Features, ModelSpec, Preprocessing, Windows

# A checkpoint that was loaded, a local file, `hf-hub:org/name`, or None for the one that ships with the package.
CheckpointLike = Checkpoint | str | Path | None


def load_checkpoint(
    source: str | Path | None = None,
    *,
    model: str | None = None,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | Sequence[tuple[int, int]] | None = None,
    windows: Windows | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | str | Path | None = None,
    license: str | None = None,
    features: Features | None = None,
    scores: bool = False,
    tasks: Sequence[TaskFile | str | Path] = (),
) -> Checkpoint:
    """Load our own or a public checkpoint: a local file (`.safetensors`, `.pth`, `.pt`, `.bin`) or `hf-hub:org/name`.

    Without a `source`, it is the trained checkpoint that ships with the package.

    Our own files say what they hold; in others, names tell the release and shapes the variant. The
    `config.json` and `preprocessor_config.json` beside a file are followed, as far as they are of its network. Weights
    become float32. Of several weights in a training checkpoint the averaged ones (EMA) are taken. Nothing in a file is
    executed. What was not taken as it stands is said in `notes`.

    `model` is the only variant that the file may hold. `num_classes` is what the caller insists on; a backbone without
    a classifier gets a fresh, untrained one for as many classes. `image_size` (pixels; height and width, or one for
    both) is what the network is brought to; a list of several makes a phone file with an entry for each. Its windows
    then "keep" their size in positions or "scale" with the image, by default as in the family's own code; the tables of
    position biases are interpolated to them. `preprocessing` says how images are prepared, where the file does not say
    it, or wrongly: a whole Preprocessing, some of its fields, or a `preprocessor_config.json` of transformers or
    `config.json` of timm. `license` is that of the weights, which is unknown (None) but for the releases' own
    repositories. With `features` the network returns its last "map", or the "pooled" mean of that, instead of class
    scores: of a backbone, of a classifier without its head, and of the backbone of a segmentation or detection network.
    With `scores`, too, a classifier returns both, scores before features. `tasks` are files of what was learned on this
    checkpoint (`mobilevit train --base`): the network answers each beside its own classes.

    Raises CheckpointError when the file is missing, broken or unsafe, does not hold every tensor of one network and no
    other, or stands beside a description that does not fit or cannot be followed, and RequestError for an unknown
    `model` and an image size or preprocessing that the network does not take.
    """
    size, sizes = _one_or_several(image_size)
    file, fields = None, dict[str, Any]()
    if isinstance(preprocessing, str | Path):
        file = Path(preprocessing)
    elif preprocessing is not None:
        given = preprocessing
        fields = msgspec.structs.asdict(given) if isinstance(given, Preprocessing) else dict(given)
    preparation = Preparation(size, windows, sizes, file, fields, license)
    return load_prepared(source, preparation, model, num_classes, features, scores, tasks)


def load_prepared(
    source: str | Path | None,
    preparation: Preparation,
    model: str | None = None,
    num_classes: int | None = None,
    features: Features | None = None,
    scores: bool = False,
    tasks: Sequence[TaskFile | str | Path] = (),
) -> Checkpoint:
    """`load_checkpoint` for what a caller decides as a Preparation."""
    if model is not None:
        model_entry(model)
    if features is not None and num_classes is not None:
        raise RequestError("`num_classes` asks for a classifier and `features` for none: give one of them")
    require_features(features, scores=scores)
    if features not in (None, *get_args(Features)):
        raise RequestError(f"{features!r} is no kind of features; take {' or '.join(get_args(Features))}")
    file = without_other_head(read_source(source), features)
    match = identify(file, model, preparation)
    if features is None and match.spec.features:
        features, scores = match.spec.features, match.spec.returns_scores
    if tasks and features:
        raise RequestError("a network returns features or answers `tasks`, not both: leave one of them out")
    stored = fill(file, match, num_classes, features, scores=scores)
    if preparation.image_sizes:  # all are made from what is stored, with its tasks
        return prepare(add_tasks(stored, tasks), preparation)
    known = weights_sha256(stored.model) if tasks else None  # before positions are brought to another size
    return add_tasks(prepare(stored, preparation), tasks, stored_sha256=known)


def _one_or_several(
    given: int | tuple[int, int] | Sequence[tuple[int, int]] | None,
) -> tuple[tuple[int, int] | None, tuple[tuple[int, int], ...]]:
    """An image size, height and width, or several; a list of one is one."""
    if given is None:
        return None, ()
    if isinstance(given, int):
        return (given, given), ()
    listed: list[Any] = list(given)
    if len(listed) == 2 and all(isinstance(side, int) for side in listed):
        return (listed[0], listed[1]), ()
    sizes = []
    for each in listed:
        if not isinstance(each, Sequence) or len(each) != 2 or not all(isinstance(side, int) for side in each):
            raise RequestError(f"of several image sizes, each is a pair of height and width, not {each!r}")
        sizes.append((each[0], each[1]))
    return (sizes[0], ()) if len(sizes) == 1 else (None, tuple(sizes))


def require_features(features: Features | None, *, scores: bool) -> None:
    """Raise RequestError for `scores` without `features`."""
    if scores and features is None:
        raise RequestError("`scores` asks for class scores beside features: give `features`, too")


def read_source(source: str | Path | None) -> TensorFile:
    """`read_tensors` of what a user gives for a checkpoint; None is the one that ships with the package."""
    source = default_checkpoint() if source is None else source
    if str(source) in list_models() and not is_there(source):
        raise CheckpointError(
            f"{source} is a model's name, not a checkpoint: give a file of its weights, or hf-hub:org/name"
        )
    file = with_own_config(read_tensors(source))
    refuse_task(file)
    return file


def load_as_stored(source: str | Path, spec: ModelSpec) -> Checkpoint:
    """The network of `spec` at the size and with the windows that a file has, whatever stands beside it on images."""
    features = spec.features or None
    file = without_other_head(read_tensors(source), features)
    match = identify(file, spec.model, Preparation(fields=msgspec.structs.asdict(spec.preprocessing)))
    return fill(file, match, features=features, scores=bool(spec.scores))


def prepare(checkpoint: Checkpoint, preparation: Preparation) -> Checkpoint:
    """The checkpoint as `preparation` has it, its network at the image size asked for. Raises what `apply` does."""
    if preparation == AS_STATED:
        return checkpoint
    if checkpoint.spec.image_sizes:
        raise RequestError(f"{checkpoint.source} is prepared for several image sizes: load it anew")
    spec, notes = preparation.apply(checkpoint.spec)
    network = fit_network(checkpoint.model, checkpoint.spec, spec)
    stored = (checkpoint.model, checkpoint.spec) if spec.image_sizes else None
    return dataclasses.replace(checkpoint, model=network, spec=spec, notes=(*checkpoint.notes, *notes), stored=stored)


def as_checkpoint(given: CheckpointLike, preparation: Preparation = AS_STATED) -> Checkpoint:
    """What was given where a checkpoint is meant, loaded by `load_checkpoint` unless it is loaded already."""
    return prepare(given, preparation) if isinstance(given, Checkpoint) else load_prepared(given, preparation)


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
