"""The parts of a model's description: its config, how images are prepared, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar, Literal

import msgspec

Windows = Literal["keep", "scale"]
HEADER = "the header of the checkpoint"  # what says how images are prepared where nothing else does
Features = Literal["pooled", "map"]
LOGITS, FEATURES, BOXES = "logits", "features", "boxes"  # what outputs are called that are no task's
# Of an output: how its answers are compared (`parity.compare`). A detector answers many queries with an image: class
# scores of each, [queries, classes + 1], the last for "no object", and boxes, [queries, 4]: center x, center y, width
# and height as shares of the image.
Kind = Literal["scores", "features", "query-scores", "boxes"]
TASK_NAME = r"^[a-z][a-z0-9_]{0,39}$"  # phone formats take it for an output as it is
# What names something else in the metadata of a phone file, or among reference vectors.
RESERVED_NAMES = (
    *("logits", "features", "boxes", "image", "images", "probabilities", "label", "labels", "classes"),
    *("cases", "model", "task", "resizing", "license", "main"),
)


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value read from untrusted files: typed, immutable, and refusing any field that it does not know."""


class ModelConfig(Strict, frozen=True, kw_only=True):
    """Everything that defines one network of a family; what a pruned network changes.

    A family of detectors has the field `num_queries`, the number of boxes that it answers with, beside `num_classes`,
    which does not count "no object".
    """

    # What becomes of the windows of trained weights at another image size, as the family's own code has it.
    windows_when_resized: ClassVar[Windows] = "scale"

    num_classes: int = 1000
    in_channels: int = 3

    def check_image_size(self, height: int, width: int) -> None:
        """Raise ValueError for images, in pixels, that the network cannot take with the windows that it has."""
        if min(height, width) < self.stride:
            raise ValueError(f"images of {height}x{width} are smaller than the network's total stride of {self.stride}")

    def at_image_size(self, height: int, width: int) -> ModelConfig:
        """The config for images of another size, in pixels. Raises ValueError for a size that the network cannot take.

        Here: the config itself, for networks whose weights fit every size. Families with windows scale those.
        """
        ModelConfig.check_image_size(self, height, width)
        return self

    def explicit(self) -> ModelConfig:
        """The same network with every width written out, so that pruning can change each (`channel_groups`).

        Here: the config itself, for families that cannot be pruned.
        """
        return self

    @property
    def stride(self) -> int:
        """The side in pixels of what becomes one position of the last feature map: the smallest image."""
        raise NotImplementedError


class Preprocessing(Strict, frozen=True, kw_only=True):
    """From a decoded RGB image to the tensor that the reference model takes.

    Resize, crop the center to `image_size` (height, width), scale to [0, 1], order the channels, then (x - mean) / std,
    with mean and std given in `channel_order`. Phone graphs include everything from the channel order on. `resize_mode`
    "shorter" brings the shorter side to `resize_size` and keeps the proportions; "squash" brings both sides to
    `image_size` and crops nothing.
    """

    image_size: tuple[int, int]
    resize_size: int
    resize_mode: Literal["shorter", "squash"] = "shorter"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    channel_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if min(*self.image_size, self.resize_size) < 1:
            raise ValueError(f"image and resize sizes must be positive, not {self.image_size} and {self.resize_size}")
        if not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ValueError(f"mean and std must be finite, not {self.mean} and {self.std}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std}")

    def describe(self) -> str:
        """One line for people."""
        height, width = self.image_size
        resize = {
            "shorter": f"shorter side to {self.resize_size} ({self.interpolation}), center {height}x{width}",
            "squash": f"squashed to {height}x{width} ({self.interpolation})",
        }
        steps = [resize[self.resize_mode], self.channel_order.upper()]
        if any(self.mean) or self.std != (1.0, 1.0, 1.0):
            steps.append(f"mean {list(self.mean)}, std {list(self.std)}")
        return ", ".join(steps)

    def at_size(self, height: int, width: int) -> Preprocessing:
        """The same preprocessing for an input of another size in pixels; the share that is cropped away stays."""
        resize_size = min(height, width) * self.resize_size // min(self.image_size)  # rounded as the releases do
        return msgspec.structs.replace(self, image_size=(height, width), resize_size=resize_size)


MAX_SIZES = 16  # that a file may hold


def check_image_sizes(sizes: Sequence[tuple[int, int]]) -> None:
    """Raise ValueError unless these are several sizes for one file, height and width in pixels."""
    if not 2 <= len(sizes) <= MAX_SIZES:
        raise ValueError(f"a file holds 2 to {MAX_SIZES} image sizes, not {len(sizes)}")
    twice = next((size for index, size in enumerate(sizes) if size in sizes[:index]), None)
    if twice:
        raise ValueError(f"the image size {in_pixels(twice)} is given twice")
    if min(min(size) for size in sizes) < 1:
        raise ValueError("an image size is positive")


def in_pixels(size: tuple[int, int]) -> str:
    """Height and width as people and files name them, such as 256x192."""
    return f"{size[0]}x{size[1]}"


def nearest_size(width: int, height: int, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Of these sizes, height and width each, the one whose aspect ratio is nearest to that of an upright picture.

    The difference of the logarithms of both ratios is the smallest; the earlier one where two are equally near. It is
    compared in whole numbers, without logarithms, so that every language finds the same one.
    """

    def quotient(size: tuple[int, int]) -> Fraction:
        one, other = width * size[0], height * size[1]
        return Fraction(max(one, other), min(one, other))

    return min(sizes, key=quotient)


class ModelInfo(Strict, frozen=True, kw_only=True):
    """What is publicly known of a registered model; not needed to run it."""

    paper: str
    top1: float | None = None  # percent, ImageNet-1k validation
    box_ap: float | None = None  # of a detector: percent, COCO val5k, over IoU of 0.5 to 0.95
    top1_source: str  # of either
    license: str
    preprocessing: Preprocessing


class Output(Strict, frozen=True):
    """One of a network's answers to an image, by the name that it has in phone files and reference vectors."""

    name: str
    kind: Kind
    classes: int | None = None  # of scores; of a query's, the last is "no object"
    labels: tuple[str, ...] | None = None  # of the classes but "no object"
    queries: int | None = None  # of a detector

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of the answer to one image; None where the spec does not tell."""
        if self.kind == "boxes":
            return self.queries or 0, 4
        if self.kind == "query-scores":
            return self.queries or 0, self.classes or 0
        return (self.classes or 0,) if self.kind == "scores" else None

    @property
    def meaning(self) -> str:
        """In words, for the metadata of phone files."""
        return {
            "scores": "class scores before softmax, the highest for the likeliest class",
            "features": "features of the image, in no order that means anything",
            "query-scores": "class scores of each box before softmax, the last of them for no object",
            "boxes": "center x, center y, width and height of each box as shares of the image, from 0 to 1",
        }[self.kind]

    def __str__(self) -> str:
        """In words, what it holds."""
        if self.kind == "query-scores":
            return f"{self.queries} x {self.classes} scores"
        if self.kind == "boxes":
            return f"{self.queries} boxes"
        return f"{self.classes} classes" if self.kind == "scores" else "features"

    @property
    def labels_name(self) -> str:
        """What phone files call the labels: "labels" of the network's own scores, "labels_pets" of a task's."""
        return "labels" if self.name == LOGITS else f"labels_{self.name}"

    @property
    def label_lines(self) -> list[str]:
        """The labels without breaks of lines; none where there are none."""
        return [" ".join(label.split()) for label in self.labels or ()]
