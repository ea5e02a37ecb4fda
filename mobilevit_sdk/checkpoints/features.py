"""Features instead of class scores: of a classifier without its head, and of what was trained for another task."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections import Counter

from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.tensor_file import TensorFile
from mobilevit_sdk.errors import CheckpointError, RequestError
from mobilevit_sdk.models.backbone import Backbone
from mobilevit_sdk.models.meta_model import build_on_meta
from mobilevit_sdk.models.registry import return_features
from mobilevit_sdk.spec import LOGITS, Features
from mobilevit_sdk.text import shorten

# What the heads for other tasks are called in transformers, ml-cvnets, mmsegmentation and detectron.
_HEADS = {
    "segmentation": ("segmentation_head", "seg_head", "aspp", "decode_head"),
    "detection": ("ssd_heads", "extra_layers", "bbox_head", "bbox_embed", "class_embed", "roi_heads", "rpn", "fpn"),
}

_DETR = {"query_embed", "class_embed", "bbox_embed"}  # of which the network is known here


def without_other_head(file: TensorFile, features: Features | None) -> TensorFile:
    """The file without the head of a segmentation or detection network, where it has one that is not known here.

    Raises CheckpointError for such a file where no features are asked for.
    """
    if features is None and {part for name in file.tensors for part in name.split(".")} >= _DETR:
        return file
    task_of = {name: task for name in file.tensors if (task := _task(name))}
    if not task_of:
        return file
    task = Counter(task_of.values()).most_common(1)[0][0]
    what = f"a {task} checkpoint ({shorten(list(task_of))})"
    if features is None:
        raise CheckpointError(
            f"{file.source} is {what}, and this SDK converts classifiers and DETR: give `features=map` for the last "
            f"map of its backbone, or `features=pooled` for its mean"
        )
    note = f"the file is {what}: its head is left out; features are those of the backbone at its own strides"
    rest = {name: tensor for name, tensor in file.tensors.items() if name not in task_of}
    return dataclasses.replace(file, tensors=rest, notes=(*file.notes, note))


def _task(name: str) -> str | None:
    parts = re.split(r"[./]", name)
    return next((task for task, heads in _HEADS.items() if any(head in parts for head in heads)), None)


class _OneOutput(nn.Module):
    """A network that answers with one of its outputs."""

    def __init__(self, network: nn.Module, index: int) -> None:
        super().__init__()
        self.network, self.index = network, index

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.network(x)[self.index]
        return answer


def classifier_of(checkpoint: Checkpoint, task: str | None = None) -> Checkpoint:
    """The checkpoint as a plain classifier with the same weights: of its own classes, or of those of `task`.

    Raises RequestError where it answers no such task, or returns no scores.
    """
    spec = checkpoint.spec.of_output(task)
    if len(checkpoint.spec.outputs) == 1:
        return checkpoint
    if task in (None, LOGITS):
        network = build_on_meta(spec)
        weights = checkpoint.model.state_dict()
        network.load_state_dict({name: weights[name] for name in network.state_dict()}, assign=True)
    else:
        index = [output.name for output in checkpoint.spec.outputs].index(task)
        network = _OneOutput(checkpoint.model, index)
    return dataclasses.replace(checkpoint, model=network.eval(), spec=spec)


def features_of(checkpoint: Checkpoint, kind: Features, *, scores: bool = False) -> Checkpoint:
    """The checkpoint with the head dropped: its network returns features, [B, C] pooled or the map [B, C, h, w].

    With `scores` the head stays, and the network returns class scores and features. The checkpoint itself stays as it
    is. Raises RequestError for networks that have none, and for a map that is wanted of what is pooled already.
    """
    if (checkpoint.spec.features, checkpoint.spec.returns_scores) == (kind, scores):
        return checkpoint
    if not isinstance(checkpoint.model, Backbone) or checkpoint.spec.features:
        raise RequestError(f"{checkpoint.source} does not give features of the kind {kind!r}; load it from its file")
    network = copy.deepcopy(checkpoint.model)
    return_features(network, kind, scores=scores)
    spec = checkpoint.spec.with_features(kind, scores=scores)
    return dataclasses.replace(checkpoint, model=network, spec=spec)
