"""The loss of a student that learns from a teacher's scores as well as from labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mobilevit_sdk.recipe import Distillation


def distillation_loss(student: Tensor, targets: Tensor, teacher: Tensor, how: Distillation, smoothing: float) -> Tensor:
    """(1 - weight) * cross-entropy with the targets + weight * `teacher_loss`. Only the labels are smoothed.

    Shapes: scores of the student, class probabilities, scores of the teacher, each [B, num_classes] -> scalar.
    """
    return _weighed(F.cross_entropy(student, targets, label_smoothing=smoothing), student, teacher, how)


def token_loss(
    heads: tuple[Tensor, Tensor], targets: Tensor, teacher: Tensor | None, how: Distillation | None, smoothing: float
) -> Tensor:
    """The loss of a network with a distillation token (DeiT, arXiv 2012.12877, section 3), in training mode.

    Of its `heads` the class head learns the labels, and the distillation head the teacher's answers, as in
    `distillation_loss`; with `how.token` False the mean of both, which is what the network answers, learns from both.
    Without a teacher both heads learn the labels: one that learned nothing would spoil their mean. (The authors' code
    leaves the distillation head as it began.) Shapes: [B, num_classes] each -> scalar.
    """
    scores, taught = heads
    if teacher is None or how is None:
        own, other = (F.cross_entropy(head, targets, label_smoothing=smoothing) for head in heads)
        return (own + other) / 2
    if not how.token:
        return distillation_loss((scores + taught) / 2, targets, teacher, how, smoothing)
    return _weighed(F.cross_entropy(scores, targets, label_smoothing=smoothing), taught, teacher, how)


def teacher_loss(student: Tensor, teacher: Tensor, how: Distillation) -> Tensor:
    """How far a student is from its teacher. Shapes: scores [B, num_classes] of both -> scalar, the mean over images.

    Soft: temperature^2 * KL(softmax(teacher / temperature) || softmax(student / temperature)); the factor keeps the
    size of the gradients (Hinton et al., arXiv 1503.02531, section 2; DeiT, arXiv 2012.12877, equation 2). The authors'
    code of DeiT divides it by the number of classes as well, which for ImageNet makes it a thousandth, and its soft
    distillation one by labels. Hard: cross-entropy with the class that the teacher scores highest (DeiT, equation 3).
    """
    if how.kind == "hard":
        return F.cross_entropy(student, teacher.argmax(1))
    mine, theirs = ((scores / how.temperature).log_softmax(1) for scores in (student, teacher))
    return how.temperature**2 * F.kl_div(mine, theirs, reduction="batchmean", log_target=True)


def _weighed(labeled: Tensor, student: Tensor, teacher: Tensor, how: Distillation) -> Tensor:
    return (1 - how.weight) * labeled + how.weight * teacher_loss(student, teacher, how)
