"""A set of boxes with a class each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilevit_sdk.data import ImageDataset, crop_image
from mobilevit_sdk.data.preprocessing import seen_region
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.recipe import DETECTION_RECIPE, Recipe
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks.classes import class_indices
from mobilevit_sdk.tasks.detection.average_precision import AveragePrecision, average_precision
from mobilevit_sdk.tasks.detection.found import Found, found_objects, split_answers
from mobilevit_sdk.tasks.task import Predict, Together, batch, for_each
from mobilevit_sdk.text import count

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mobilevit_sdk.tasks.detection.targets import BoxTargets
    from mobilevit_sdk.tasks.draws import Draws


@dataclass(frozen=True)
class Detection:
    """Targets are the objects of each picture; answers are logits and boxes, in training those of every layer."""

    spec: ModelSpec
    recipe = DETECTION_RECIPE

    def match(self, dataset: ImageDataset, *, training: bool = False) -> ImageDataset:
        """The same pictures with the class indices of the head: names decide, and else the number of classes.

        Raises RequestError where they do not fit, for pictures without labeled boxes, and in `training` for a network
        that sees a part of each picture.
        """
        if dataset.objects is None:
            what = "classes, and no boxes" if dataset.labels is not None else "no labeled boxes"
            raise RequestError(
                f"{dataset.source} has {what}, but {self.spec.model} answers with boxes: give a COCO JSON file, or a "
                f"Parquet file with a column `objects`"
            )
        if training and self.spec.preprocessing.resize_mode != "squash":
            raise RequestError(f"a detector learns from whole pictures: {self.spec.model} needs `resize_mode` squash")
        present = np.unique(np.concatenate([np.empty(0, np.int64), *(each.classes for each in dataset.objects)]))
        indices = class_indices(dataset, self.spec, present.tolist())
        if indices is None:
            return dataset
        table = np.array([-1 if index is None else index for index in indices], np.int64)
        objects = [dataclasses.replace(each, classes=table[each.classes]) for each in dataset.objects]
        return dataclasses.replace(dataset, objects=objects, class_names=self.spec.labels)

    def notes(self, dataset: ImageDataset) -> tuple[str, ...]:
        """Which pictures have more objects than the network can answer."""
        counts = [int((~each.crowd).sum()) for each in dataset.objects or ()]
        beyond = [row for row, number in enumerate(counts) if number > self.spec.num_queries]
        if not beyond:
            return ()
        most = max(beyond, key=counts.__getitem__)
        return (
            f"{dataset.source}: {count(beyond, 'picture')} with more objects than the {self.spec.num_queries} queries "
            f"of {self.spec.model}, {dataset.names[most]} the most ({counts[most]:,}): some cannot be found",
        )

    def measure(
        self,
        predict: Predict,
        dataset: ImageDataset,
        *,
        batch_size: int = 64,
        progress: Progress = silent,
        together: Together | None = None,
    ) -> AveragePrecision:
        """Average precision on a checked dataset, in the pixels of its pictures; `progress` counts them.

        Raises RequestError when the data do not fit the model or a picture cannot be decoded.
        """
        dataset = self.match(dataset)
        found = for_each(lambda rows: self.find(predict, dataset, rows), len(dataset), batch_size, together, progress)
        assert dataset.objects is not None
        return average_precision(dataset.objects, found, self.class_names)

    def quality_of(self, answers: np.ndarray, dataset: ImageDataset) -> AveragePrecision:
        """Of answers that are known already, [pictures, values], to the pictures of a checked dataset."""
        dataset = self.match(dataset)
        assert dataset.objects is not None
        sizes = [each.size for each in dataset.objects if each.size is not None]  # of all: it is checked
        return average_precision(dataset.objects, self.placed(answers, sizes), self.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels, or the numbers of the classes."""
        return self.spec.labels or tuple(f"class {index}" for index in range(self.spec.num_classes))

    def placed(self, answers: np.ndarray, sizes: Sequence[tuple[int, int]]) -> list[Found | None]:
        """Answers on pictures of these sizes, (width, height); None where they are not finite."""
        return [
            found_objects(logits, boxes, seen_region(size, self.spec.preprocessing_for(*size)), size)
            if np.isfinite(logits).all() and np.isfinite(boxes).all()
            else None
            for size, logits, boxes in zip(sizes, *split_answers(answers, self.spec), strict=True)
        ]

    def find(self, predict: Predict, dataset: ImageDataset, rows: Sequence[int]) -> list[Found | None]:
        """What the queries answer for these pictures, or None where that is not finite."""
        pictures = [dataset.image(row) for row in rows]
        pixels = [crop_image(picture, self.spec.preprocessing_for(*picture.size)) for picture in pictures]
        return self.placed(predict(batch(pixels)), [picture.size for picture in pictures])

    def targets(self, dataset: ImageDataset, rows: Sequence[int]) -> BoxTargets:
        """See `box_targets`."""
        from mobilevit_sdk.tasks.detection.targets import box_targets

        return box_targets(dataset, rows)

    def augment(
        self, images: Tensor, targets: Any, size: tuple[int, int], recipe: Recipe, draws: Draws
    ) -> tuple[Tensor, BoxTargets]:
        """See `augment_boxes`."""
        from mobilevit_sdk.tasks.detection.augment import augment_boxes

        return augment_boxes(images, targets, size, recipe, draws)

    def answers(self, model: nn.Module, x: Tensor) -> Any:
        """Logits and boxes after each decoder layer, for auxiliary losses."""
        return model.by_layer(x)  # type: ignore[operator]

    def loss(self, answers: Any, targets: Any, recipe: Recipe | None = None, taught: Tensor | None = None) -> Tensor:
        """See `set_loss`; of the last layer alone where the answers are logits and boxes."""
        from mobilevit_sdk.tasks.detection.set_loss import set_loss

        return set_loss([answers] if isinstance(answers, tuple) else answers, targets)

    def divided(self, targets: Sequence[Any], total: Callable[[Sequence[float]], Sequence[float]]) -> Sequence[Any]:
        """With what the loss divides by, of the whole batch: see `divide`."""
        from mobilevit_sdk.tasks.detection.set_loss import divide

        return divide(targets, self.spec.num_queries, total)
