"""The loss of a set of objects: each is matched with one answer, and the others are to answer "no object".

Carion et al., End-to-End Object Detection with Transformers, https://arxiv.org/abs/2005.12872, sections 3.1 and A.2,
with the numbers of the authors' code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mobilevit_sdk.tasks.detection.targets import BoxTargets

Answers = tuple[Tensor, Tensor]  # logits [B, Q, C + 1] and boxes [B, Q, 4]
CLASS_COST, L1_COST, GIOU_COST = 1.0, 5.0, 2.0  # of the matching, and of the loss
NO_OBJECT_WEIGHT = 0.1  # of a class that most queries answer
_NO_AREA = 1e-12  # of a picture's: what is divided by at least
_HOPELESS = 1e6  # the cost of an answer that is not a number: the loss says so, not the matching


def set_loss(layers: Sequence[Answers], targets: BoxTargets) -> Tensor:
    """The sum of `layer_loss` over what each decoder layer answers: the last is the answer, the others auxiliary."""
    return torch.stack([layer_loss(logits, boxes, targets) for logits, boxes in layers]).sum()


def layer_loss(logits: Tensor, boxes: Tensor, targets: BoxTargets) -> Tensor:
    """Cross-entropy over all queries + 5 * L1 + 2 * (1 - generalized IoU) of matched boxes, by the number of objects.

    "No object" weighs a tenth. Equation 2 of the paper; shapes as in `Answers`, boxes as in `BoxTargets` -> scalar.
    """
    logits, boxes = logits.float(), boxes.float()  # of bfloat16, where the training runs in it
    whole = targets.divisors is None
    images, queries = match(logits.detach(), boxes.detach(), targets)
    found = queries >= 0  # objects beyond the number of queries have no answer
    images, queries = images[found], queries[found]
    nothing = logits.shape[2] - 1
    wanted = logits.new_full(logits.shape[:2], nothing, dtype=torch.int64)
    wanted[images, queries] = torch.cat(targets.classes)[found]
    weights = logits.new_ones(nothing + 1)
    weights[nothing] = NO_OBJECT_WEIGHT
    named = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weights, reduction="mean" if whole else "sum")
    answered, wanted_boxes = boxes[images, queries], torch.cat(targets.boxes)[found]
    objects, weight = targets.divisors or (max(targets.count, 1), 1.0)
    placed = F.l1_loss(answered, wanted_boxes, reduction="sum") / objects
    overlapping = (1 - generalized_iou(answered, wanted_boxes)).sum() / objects
    return CLASS_COST * (named if whole else named / weight) + L1_COST * placed + GIOU_COST * overlapping


def divide(
    parts: Sequence[BoxTargets], queries: int, total: Callable[[Sequence[float]], Sequence[float]]
) -> list[BoxTargets]:
    """Parts of a batch with the `divisors` of the whole, in each by its share of the pictures; see `Task.divided`."""
    counts = [[len(classes) for classes in part.classes] for part in parts]
    pictures, objects, matched = total(
        [
            sum(map(len, counts)),
            sum(map(sum, counts)),
            sum(min(number, queries) for each in counts for number in each),
        ]
    )
    weight = matched + NO_OBJECT_WEIGHT * (pictures * queries - matched)
    return [
        dataclasses.replace(part, divisors=(max(objects, 1) * len(each) / pictures, weight * len(each) / pictures))
        for part, each in zip(parts, counts, strict=True)
    ]


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, targets: BoxTargets) -> tuple[Tensor, Tensor]:
    """For each object of all pictures, one after the other: its picture, and the query that is to answer it, or -1.

    The assignment costs least in all (Kuhn-Munkres), by -probability of the class + 5 * L1 - 2 * generalized IoU.
    Shapes: int64 [objects], twice.
    """
    probabilities = logits.softmax(2)
    images, queries = [], []
    for image, (classes, wanted) in enumerate(zip(targets.classes, targets.boxes, strict=True)):
        apart = torch.cdist(boxes[image], wanted, p=1)
        overlap = generalized_iou(boxes[image][:, None], wanted[None])
        cost = L1_COST * apart - CLASS_COST * probabilities[image][:, classes] - GIOU_COST * overlap
        rows, columns = linear_sum_assignment(cost.nan_to_num(_HOPELESS, _HOPELESS).cpu().numpy())
        chosen = torch.full((len(classes),), -1)
        chosen[torch.from_numpy(columns)] = torch.from_numpy(rows)
        queries.append(chosen)
        images.append(torch.full_like(chosen, image))
    return torch.cat(images).to(logits.device), torch.cat(queries).to(logits.device)


def generalized_iou(one: Tensor, other: Tensor) -> Tensor:
    """IoU less the empty share of the smallest box around both (arXiv 1902.09630), from -1 to 1.

    Boxes are center x, center y, width and height, not negative. Shapes: [..., 4], twice -> [...], broadcast.
    """
    low, high = ([each[..., :2] + sign * each[..., 2:] / 2 for each in (one, other)] for sign in (-1, 1))
    shared = (torch.minimum(*high) - torch.maximum(*low)).clamp(min=0).prod(-1)
    around = (torch.maximum(*high) - torch.minimum(*low)).prod(-1)
    # Of the corners as they are rounded: a box too thin for its place has no area, as its hull has none.
    areas = [(upper - lower).prod(-1) for lower, upper in zip(low, high, strict=True)]
    union = areas[0] + areas[1] - shared
    return shared / union.clamp(min=_NO_AREA) - (around - union) / around.clamp(min=_NO_AREA)
