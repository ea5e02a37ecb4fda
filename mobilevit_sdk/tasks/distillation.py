"""The loss of a student that learns from a teacher's scores as well as from labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mobilevit_sdk.recipe import Distillation


def distillation_loss(student: Tensor, targets: Tensor, teacher: Tensor, how: Distillation, smoothing: float) -> Tensor:
    """(1 - weight) * cross-entropy with the targets + weight * distance from the teacher.

    Soft: temperature^2 * KL(softmax(teacher / temperature) || softmax(student / temperature)); the factor keeps the
    size of the gradients (Hinton et al., arXiv 1503.02531, section 2; DeiT, arXiv 2012.12877, equation 2). Hard:
    cross-entropy with the class that the teacher scores highest (DeiT, equation 3). Only the labels are smoothed.
    Shapes: scores of the student, class probabilities, scores of the teacher, each [B, num_classes] -> scalar.
    """
    labeled = F.cross_entropy(student, targets, label_smoothing=smoothing)
    if how.kind == "hard":
        taught = F.cross_entropy(student, teacher.argmax(1))
    else:
        mine, theirs = ((scores / how.temperature).log_softmax(1) for scores in (student, teacher))
        taught = how.temperature**2 * F.kl_div(mine, theirs, reduction="batchmean", log_target=True)
    return (1 - how.weight) * labeled + how.weight * taught
