"""Knowledge distillation: a network learns from the scores of trained teachers as well as from the labels."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, network_sha256
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.text import one_line
from mobilevit_sdk.training.teachers import TeacherNetwork


class Teacher(Protocol):
    """What a training learns from beside labels.

    `sha256` is of all that decides its answers but code; `provenance` is what checkpoints say of it.
    """

    name: str
    sha256: str
    provenance: dict[str, Any]

    def scores(self, images: Tensor) -> Tensor:
        """Scores for the images that the student sees: floats in [0, 1], [B, 3, S, T] -> float32 [B, num_classes]."""
        ...

    def layer(self, path: str) -> nn.Module:
        """The module of its network at `path`, which runs whenever it gives scores. Raises RequestError."""
        ...


def make_teacher(
    given: Checkpoint | TeacherNetwork | Sequence[Checkpoint | TeacherNetwork], student: ModelSpec, device: torch.device
) -> Teacher:
    """A teacher for the classes of `student`, in their order; of several networks, all of them together.

    Raises RequestError where one lacks a class of the student, or answers with no scores.
    """
    several = given if isinstance(given, Sequence) else (given,)
    made = [
        CheckpointTeacher(each, student, device)
        if isinstance(each, Checkpoint)
        else ModuleTeacher(each, student, device)
        for each in several
    ]
    return made[0] if len(made) == 1 else Ensemble(made)


class CheckpointTeacher:
    """A network of this SDK. It may be of another family, with its own preprocessing and input size: images are resized
    to the size that it was trained for."""

    def __init__(self, checkpoint: Checkpoint, student: ModelSpec, device: torch.device) -> None:
        self.spec = checkpoint.spec
        self.name = self.spec.model
        self.classes = _classes(self.spec.labels, self.spec.num_classes, checkpoint.source, student)
        same_size = self.spec.preprocessing.image_size == student.preprocessing.image_size
        self.size = None if same_size else self.spec.preprocessing.image_size
        self.model = _frozen(checkpoint.model, device)
        self.sha256 = network_sha256(self.model, self.spec)
        self.provenance: dict[str, Any] = {
            "model": self.spec.model,
            "source": Path(checkpoint.source).name,
            "sha256": checkpoint.sha256,
        }

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """See `Teacher`."""
        x = to_model_input(_resized(images, self.size), self.spec.preprocessing)
        scores: Tensor = self.model(x.contiguous(memory_format=torch.channels_last))
        return _chosen(scores.float(), self.classes)

    def layer(self, path: str) -> nn.Module:
        """See `Teacher`."""
        return layer_of(self.model, path, f"the teacher {self.name}")


class ModuleTeacher:
    """Any other network, which says itself how its images are prepared."""

    def __init__(self, given: TeacherNetwork, student: ModelSpec, device: torch.device) -> None:
        self.name, self.size = given.name, given.image_size
        self.preprocessing = given.prepared_as(student.preprocessing.image_size)
        self.model = _frozen(given.network, device)
        scores = self._answers(torch.zeros(2, 3, *student.preprocessing.image_size, device=device))
        self.classes = _classes(given.labels, scores.shape[1], given.name, student)
        self.sha256 = _module_sha256(self.model, msgspec.json.encode(self.preprocessing))
        self.provenance: dict[str, Any] = {**given.provenance, "sha256": self.sha256}

    def scores(self, images: Tensor) -> Tensor:
        """See `Teacher`."""
        return _chosen(self._answers(images), self.classes)

    def layer(self, path: str) -> nn.Module:
        """See `Teacher`."""
        return layer_of(self.model, path, f"the teacher {self.name}")

    @torch.no_grad()
    def _answers(self, images: Tensor) -> Tensor:
        x = to_model_input(_resized(images, self.size), self.preprocessing)
        try:
            answers = self.model(x.contiguous(memory_format=torch.channels_last))
        except Exception as error:  # of code that is not ours
            reason = one_line(f"{type(error).__name__}: {error}")
            raise RequestError(f"the teacher {self.name} fails on images {list(x.shape)}: {reason}") from error
        if not isinstance(answers, Tensor) or answers.ndim != 2 or len(answers) != len(images):
            shape = f"of shape {list(answers.shape)}" if isinstance(answers, Tensor) else type(answers).__name__
            raise RequestError(
                f"the teacher {self.name} has to answer {len(images)} images with scores [{len(images)}, classes], "
                f"and answers with a {'tensor ' if isinstance(answers, Tensor) else ''}{shape}"
            )
        return answers.float()


class Ensemble:
    """Several teachers, whose probabilities are averaged.

    The scores are the logarithms of the means, so that a temperature and softmax do to them what they do to those of
    one network.
    """

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        self.teachers = teachers
        self.name = " + ".join(each.name for each in teachers)
        self.sha256 = hashlib.sha256("\n".join(each.sha256 for each in teachers).encode()).hexdigest()
        self.provenance: dict[str, Any] = {"mean_of": [each.provenance for each in teachers]}

    def scores(self, images: Tensor) -> Tensor:
        """See `Teacher`."""
        logs = torch.stack([each.scores(images).log_softmax(1) for each in self.teachers])
        return logs.logsumexp(0) - math.log(len(self.teachers))

    def layer(self, path: str) -> nn.Module:
        """None of several."""
        raise RequestError(f"hidden layers are learned from one teacher, and {len(self.teachers)} are given: give one")


def layer_of(model: nn.Module, path: str, of: str) -> nn.Module:
    """The module at `path`, such as "blocks.2". Raises RequestError with the nearest where there is none."""
    known = dict(model.named_modules())
    if path not in known or not path:
        raise RequestError(f"{of} has no layer {path!r}; {suggest(path, [name for name in known if name])}")
    return known[path]


def _frozen(network: nn.Module, device: torch.device) -> nn.Module:
    """A copy, for the student may start from the same network, in eval mode."""
    model = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    frozen: nn.Module = model.eval().requires_grad_(False)
    return frozen


def _resized(images: Tensor, size: tuple[int, int] | None) -> Tensor:
    if size is None or tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def _chosen(scores: Tensor, classes: Tensor | None) -> Tensor:
    return scores if classes is None else scores[:, classes.to(scores.device)]


def _module_sha256(module: nn.Module, preprocessing: bytes) -> str:
    """Of its class's name, of how images are prepared, and of all its weights and buffers."""
    digest = hashlib.sha256(type(module).__qualname__.encode() + preprocessing)
    for kind in (module.named_parameters, module.named_buffers):
        for name, tensor in kind(remove_duplicate=False):
            content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + content.numpy().tobytes())
    return digest.hexdigest()


def _classes(known: tuple[str, ...] | None, count: int, source: str, student: ModelSpec) -> Tensor | None:
    """The indices of the student's classes among the teacher's, or None if they are the same."""
    wanted = student.labels
    if known and wanted:
        for name in wanted:
            if name not in known:
                raise RequestError(f"the teacher {source} lacks the class {name!r}; {suggest(name, known)}")
            if known != wanted and known.count(name) > 1:
                raise RequestError(f"the teacher {source} has several classes {name!r}: which is meant is open")
        return None if known == wanted else torch.tensor([known.index(name) for name in wanted])
    if count != student.num_classes:
        raise RequestError(
            f"the teacher {source} has {count} classes, but {student.model} is to learn {student.num_classes}"
        )
    return None
