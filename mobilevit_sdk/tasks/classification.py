"""One class for each image, the one with the highest score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilevit_sdk.data import ImageDataset, crop_image
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks.accuracy import Accuracy, top5_hits
from mobilevit_sdk.tasks.classes import class_order_notes, match_answers, match_classes, yes_notes
from mobilevit_sdk.tasks.task import Predict, Together, batch, for_each

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mobilevit_sdk.tasks.draws import Draws


@dataclass(frozen=True)
class Classification:
    """Labels are class indices [B], targets class probabilities [B, num_classes], answers scores of that shape."""

    spec: ModelSpec
    recipe = Recipe()

    def match(self, dataset: ImageDataset, *, training: bool = False) -> ImageDataset:
        """See `match_classes`; other than in training, a head with one score may say yes or no (`match_answers`)."""
        return match_classes(dataset, self.spec) if training else match_answers(dataset, self.spec)

    def notes(self, dataset: ImageDataset) -> tuple[str, ...]:
        """Which order the classes are in, and which of two is a yes."""
        return (*class_order_notes(dataset, self.spec), *yes_notes(dataset, self.spec))

    def measure(
        self,
        predict: Predict,
        dataset: ImageDataset,
        *,
        batch_size: int = 64,
        progress: Progress = silent,
        together: Together | None = None,
    ) -> Accuracy:
        """Top-1 and top-5: see `top5_hits`; `progress` is told how many images are done.

        Raises RequestError when the data do not fit the model or an image cannot be decoded.
        """
        dataset = self.match(dataset)
        labels = np.asarray(dataset.labels)

        def hits(rows: range) -> np.ndarray:
            """Whether the first class is right, one of the first five is, and a score is not a number: [rows, 3]."""
            images = [dataset.image(row) for row in rows]
            crops = [crop_image(image, self.spec.preprocessing_for(*image.size)) for image in images]
            scores = predict(batch(crops))
            found = top5_hits(scores, labels[rows])
            return np.stack([found[:, 0], found.any(axis=1), (~np.isfinite(scores)).any(axis=1)], axis=1)

        found = for_each(hits, len(dataset), batch_size, together, progress)
        top1, top5, not_finite = np.sum(found, axis=0).tolist()
        return Accuracy(len(dataset), top1 / len(dataset), top5 / len(dataset), not_finite)

    def targets(self, dataset: ImageDataset, rows: Sequence[int]) -> Tensor:
        """One-hot, [rows, num_classes]."""
        import torch
        import torch.nn.functional as F

        assert dataset.labels is not None
        return F.one_hot(torch.tensor([dataset.labels[row] for row in rows]), self.spec.num_classes).float()

    def augment(
        self, images: Tensor, targets: Any, size: tuple[int, int], recipe: Recipe, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Geometry and color, which leave the class as it is, then mixup or cutmix, which mix the classes alike."""
        from mobilevit_sdk.tasks.augment import augment, mix

        return mix(augment(images, size, recipe, draws), targets, recipe, draws.batch)

    def answers(self, model: nn.Module, x: Tensor) -> Any:
        """Scores."""
        return model(x)

    def loss(self, answers: Any, targets: Any, recipe: Recipe | None = None, taught: Tensor | None = None) -> Tensor:
        """Cross-entropy; in a training with the recipe's label smoothing, and `distillation_loss` with a teacher.

        Of a pair of scores, those of a class head and of a distillation head, it is `token_loss`.
        """
        import torch.nn.functional as F

        from mobilevit_sdk.tasks.distillation import distillation_loss, token_loss

        smoothing, how = (recipe.label_smoothing, recipe.distillation) if recipe else (0.0, None)
        if isinstance(answers, tuple):
            first, second = (scores.float() for scores in answers)  # of bfloat16, where the training runs in it
            return token_loss((first, second), targets, taught, how, smoothing)
        if recipe is None:
            return F.cross_entropy(answers, targets)
        scores = answers.float()
        if taught is None or how is None:
            return F.cross_entropy(scores, targets, label_smoothing=smoothing)
        return distillation_loss(scores, targets, taught, how, smoothing)

    def divided(self, targets: Sequence[Any], total: Callable[[Sequence[float]], Sequence[float]]) -> Sequence[Any]:
        """As they are: every term is a mean over images."""
        return targets
