"""What a checkpoint holds, said before anything is made of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from mobilevit_sdk.checkpoints.default import default_checkpoint
from mobilevit_sdk.checkpoints.fill import fill, match_notes
from mobilevit_sdk.checkpoints.identify import identify
from mobilevit_sdk.checkpoints.load import prepare, read_source
from mobilevit_sdk.checkpoints.preparation import AS_STATED, Preparation
from mobilevit_sdk.spec import Features, Preprocessing


class CheckpointInspection(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint in words and numbers; `mobilevit inspect --json` prints these fields."""

    kind: str = "checkpoint"
    path: str  # as it was asked for
    model: str
    family: str
    layout: str  # "own", "timm", "transformers", "cream", "ml-cvnets"
    num_classes: int | None  # None: a backbone without a classifier
    features: Features | None = None  # that the network returns, instead of class scores where it has no num_classes
    parameters: int  # that are in the file, running statistics not among them
    options: dict[str, Any]  # fields of the config that are not the registered model's: window sizes, a second head
    bytes: int
    sha256: str
    dtypes: dict[str, int]  # type on disk -> number of tensors, counts of training steps aside
    image_size: tuple[int, int]  # height, width
    preprocessing: Preprocessing
    preprocessing_source: str | None  # what says so; None: the file's own header
    labels: tuple[str, ...] | None
    license: str | None  # None: unknown
    notes: tuple[str, ...]  # what a load does not take as it stands in the file


def inspect_checkpoint(
    source: str | Path | None = None, preparation: Preparation | None = None
) -> CheckpointInspection:
    """Say what a file or `hf-hub:org/name` holds, by default the checkpoint that ships with the package.

    A backbone without a classifier is described as well.

    `preparation` is what a load would be asked for. Raises CheckpointError for all that `load_checkpoint` refuses,
    damaged weights included, but a missing classifier.
    """
    source, preparation = default_checkpoint() if source is None else source, preparation or AS_STATED
    file = read_source(source)
    match = identify(file, preparation=preparation)
    checkpoint = prepare(fill(file, match, match.spec.num_classes), preparation)  # a backbone gets the usual head
    spec = checkpoint.spec
    if match.is_backbone:
        lacking = f"a backbone: it has no classifier ({match.classifier})"
        notes = (*file.notes, lacking, *match_notes(match, file.tensors))
    else:
        notes = checkpoint.notes
    types = Counter(
        str(tensor.dtype).removeprefix("torch.") for name in match.names.values() if (tensor := file.tensors[name]).ndim
    )
    return CheckpointInspection(
        path=str(source),
        model=spec.model,
        family=spec.family,
        layout=match.key_map.release,
        num_classes=spec.num_classes if spec.returns_scores and not match.is_backbone else None,
        features=spec.features or None,
        parameters=sum(
            file.tensors[match.names[theirs]].numel()
            for name, _ in checkpoint.model.named_parameters()
            for theirs in match.sources.get(name, ())
        ),
        options=msgspec.to_builtins(match.options),
        bytes=file.version.size,
        sha256=file.version.sha256(),
        dtypes=dict(types),
        image_size=spec.preprocessing.image_size,
        preprocessing=spec.preprocessing,
        preprocessing_source=spec.preprocessing_source,
        labels=spec.labels,
        license=spec.license,
        notes=notes,
    )
