"""What a user may name as the model to work on: a checkpoint, a registered name with a seed, or nothing at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.default import default_checkpoint
from mobilevit_sdk.checkpoints.labels import read_labels
from mobilevit_sdk.checkpoints.load import load_prepared, require_features
from mobilevit_sdk.checkpoints.preparation import AS_STATED, Preparation
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.files import is_there
from mobilevit_sdk.models.registry import list_models, model_spec
from mobilevit_sdk.spec import Features


def open_source(
    source: str | None = None,
    *,
    model: str | None = None,
    num_classes: int | None = None,
    random_weights_seed: int | None = None,
    preparation: Preparation = AS_STATED,
    labels_file: Path | None = None,
    features: Features | None = None,
    scores: bool = False,
    tasks: Sequence[Path] = (),
) -> Checkpoint:
    """A checkpoint from what the command line takes, with the caller's preparation and labels in its spec.

    Raises RequestError for a name without a seed, a seed without a name, and labels or classes that do not fit.
    """
    checkpoint = _load(source, model, num_classes, random_weights_seed, preparation, features, scores, tasks)
    if labels_file is None:
        return checkpoint
    return dataclasses.replace(checkpoint, spec=checkpoint.spec.with_labels(read_labels(labels_file), str(labels_file)))


def _load(
    source: str | None,
    model: str | None,
    num_classes: int | None,
    seed: int | None,
    preparation: Preparation,
    features: Features | None,
    scores: bool,
    tasks: Sequence[Path],
) -> Checkpoint:
    require_features(features, scores=scores)
    names = list_models()
    if seed is not None:
        if tasks:
            raise RequestError("`tasks` stand on the trained checkpoint that they learned on, not on random weights")
        name = source or model
        if name not in names:
            what = f"{name!r} is none; {suggest(name, names)}" if name else "give one"
            raise RequestError(f"`random_weights` needs the name of a registered model: {what}")
        overrides = {} if num_classes is None else {"num_classes": num_classes}
        registered = msgspec.structs.replace(
            model_spec(name, **overrides), license=None, preprocessing_source=f"the registered {name}"
        )
        if features:
            registered = registered.with_features(features, scores=scores)
        spec, notes = preparation.apply(registered, trained=False)
        return dataclasses.replace(random_checkpoint(spec, seed), notes=notes)
    if source is None:
        source = str(default_checkpoint())
    if source in names and not is_there(source):
        raise RequestError(
            f"{source} is a model's name, not a checkpoint: give a checkpoint of it, or `random_weights=SEED` to take "
            f"random ones"
        )
    if not is_there(source) and "." not in source and "/" not in source and ":" not in source:
        raise RequestError(f"{source!r} is neither a file nor a registered model; {suggest(source, names)}")
    return load_prepared(source, preparation, model, num_classes, features, scores, tasks)
