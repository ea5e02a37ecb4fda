"""Knowledge distillation: a network learns from the scores of a trained teacher as well as from the labels."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, network_sha256
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.spec import ModelSpec


class Teacher:
    """A trained network that gives scores for the classes of `student`, in their order.

    It may be of another family, with its own preprocessing and input size: images are resized to the size that it was
    trained for. Raises RequestError when it lacks a class of the student.
    """

    def __init__(self, checkpoint: Checkpoint, student: ModelSpec, device: torch.device) -> None:
        self.spec = checkpoint.spec
        self.classes = _classes(checkpoint, student)
        self.same_size = self.spec.preprocessing.image_size == student.preprocessing.image_size
        model = copy.deepcopy(checkpoint.model)  # the student may start from the same model
        self.model = model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
        self.sha256 = network_sha256(self.model, self.spec)
        self.provenance: dict[str, Any] = {
            "model": self.spec.model,
            "source": Path(checkpoint.source).name,
            "sha256": checkpoint.sha256,
        }

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Scores for the images that the student sees: floats in [0, 1], [B, 3, S, S] -> [B, num_classes]."""
        if not self.same_size:
            size = self.spec.preprocessing.image_size
            images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        x = to_model_input(images, self.spec.preprocessing).contiguous(memory_format=torch.channels_last)
        scores: Tensor = self.model(x)
        return scores.float() if self.classes is None else scores.float()[:, self.classes.to(scores.device)]


def _classes(teacher: Checkpoint, student: ModelSpec) -> Tensor | None:
    """The indices of the student's classes among the teacher's, or None if they are the same."""
    known, wanted = teacher.spec.labels, student.labels
    if known and wanted:
        for name in wanted:
            if name not in known:
                raise RequestError(f"the teacher {teacher.source} lacks the class {name!r}; {suggest(name, known)}")
            if known != wanted and known.count(name) > 1:
                raise RequestError(f"the teacher {teacher.source} has several classes {name!r}: which is meant is open")
        return None if known == wanted else torch.tensor([known.index(name) for name in wanted])
    if teacher.spec.num_classes != student.num_classes:
        raise RequestError(
            f"the teacher {teacher.source} has {teacher.spec.num_classes} classes, but {student.model} is to learn "
            f"{student.num_classes}"
        )
    return None
