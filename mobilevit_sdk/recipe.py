"""A training recipe as data: what it takes, beside the images, to train the same network again."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from mobilevit_sdk.errors import RequestError, suggest
from mobilevit_sdk.files import decode_json, read_text
from mobilevit_sdk.formats.quantization import QuantizationRecipe
from mobilevit_sdk.spec import Strict

# The lowest and the highest value of each field.
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 1_000_000),
    "batch_size": (2, 1_000_000),  # BatchNorm needs two
    "accumulation": (1, 1_000),
    "size_ramp": (0, 1),
    "final_share": (0, 1),
    "learning_rate": (0, 100),
    "final_learning_rate": (0, 100),
    "backbone_rate": (0, 100),
    "warmup_epochs": (0, 1_000_000),
    "weight_decay": (0, 100),
    "clip_norm": (1e-6, 1_000_000),
    "label_smoothing": (0, 1),
    "augment_ops": (0, 11),  # all of `augment.OPERATIONS`
    "augment_magnitude": (0, 1),
    "augment_probability": (0, 1),
    "color_jitter": (0, 0.9),
    "erase_probability": (0, 1),
    "repeats": (1, 16),
    "mix_probability": (0, 1),
    "mix_alpha": (0.01, 2),
    "ema_decay": (0, 1),
    "seed": (0, 2**63 - 1),
}


class HiddenLayer(Strict, frozen=True, kw_only=True):
    """A layer that learns to answer as one of the teacher's does; see `training.hidden`."""

    student: str  # the path of its module, such as "blocks.2"
    teacher: str
    weight: float = 1.0  # of the mean squared difference, beside a loss of scores

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1e6:
            raise ValueError(f"distillation hidden weight must lie between 0 and 1,000,000, not {self.weight}")


class Distillation(Strict, frozen=True, kw_only=True):
    """How a student learns from a teacher's scores; see `distillation_loss`."""

    kind: Literal["soft", "hard"] = "soft"  # from all scores, or from the class with the highest
    temperature: float = 3.0  # of soft labels; the default is DeiT's
    weight: float = 0.5  # share of the loss; the rest is that of the labels
    until: float = 1.0  # share of the training that has the teacher; what is left learns from the labels alone
    hidden: tuple[HiddenLayer, ...] = ()
    token: bool = True  # a distillation token's head learns from the teacher, alone; False: the mean of both heads does

    def __post_init__(self) -> None:
        for name, low, high in (("temperature", 0.01, 1000), ("weight", 0, 1), ("until", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"distillation {name} must lie between {low} and {high}")


class QuantizationAware(Strict, frozen=True, kw_only=True):
    """Train with the rounding of this precision simulated; see `FakeQuantization`."""

    precision: Literal["int8", "int4-weight"] = "int8"
    quantization: QuantizationRecipe = msgspec.field(default_factory=QuantizationRecipe)
    frozen_share: float = 0.5  # the last part of the training, where BatchNorm uses its running statistics

    def __post_init__(self) -> None:
        if not 0 <= self.frozen_share <= 1:
            raise ValueError(f"frozen_share must lie between 0 and 1, not {self.frozen_share}")


class Packing(Strict, frozen=True, kw_only=True):
    """Images of any proportions, several in a sequence (Patch n' Pack, NaViT, arXiv 2307.06304).

    Each image has a side of its own, drawn evenly from `sides`: in pixels, that of a square of as many pixels. Each
    loses a share of its patches, `drop` on average.
    """

    sides: tuple[int, int] | None = None  # None: from half of the evaluation size to all of it
    drop: float = 0.5
    sequence: int | None = None  # tokens; None: two of the largest images
    images: int = 64  # in a sequence, at most

    def __post_init__(self) -> None:
        if self.sides is not None and not 1 <= self.sides[0] <= self.sides[1] <= 4096:
            raise ValueError("packing sides must be two increasing numbers of pixels from 1 to 4096")
        if not 0 <= self.drop < 1:
            raise ValueError(f"packing drop must lie between 0 and 1, which would leave nothing, not {self.drop}")
        if not 1 <= (1 if self.sequence is None else self.sequence) <= 65536 or not 1 <= self.images <= 4096:
            raise ValueError("a packing sequence must have 1 to 65536 tokens of 1 to 4096 images")


class Recipe(Strict, frozen=True, kw_only=True):
    """AdamW with cosine decay after a warm-up, label smoothing, augmentation, EMA and multi-scale batches.

    `sizes` are the inputs, in pixels of the longer side, of the multi-scale sampler (MobileViT, section 3.2): each
    batch draws one, with the proportions of the evaluation size, and smaller inputs come in proportionally larger
    batches, so that every step takes about the same memory. The smallest come first: the largest size that may be drawn
    grows over the first `size_ramp` of the training, and the last `final_share` uses only the evaluation size.

    Augmentation is that of DeiT (arXiv 2012.12877, table 9) in a form for whole batches; the guide "Train and distill"
    says in what it differs.
    """

    epochs: int = 100
    batch_size: int = 128  # images a step at the evaluation size
    accumulation: int = 1  # parts in which a step computes its images, one after the other, where memory is short
    sizes: tuple[int, ...] = ()  # empty: only the evaluation size
    size_ramp: float = 0.4
    final_share: float = 0.15
    learning_rate: float = 2e-3
    backbone_rate: float = 1.0  # share of the learning rates that a detector's pretrained backbone has
    final_learning_rate: float = 1e-5
    warmup_epochs: float = 2.0
    weight_decay: float = 0.05  # not on biases and normalization
    clip_norm: float = 5.0
    label_smoothing: float = 0.1
    crop_scale: tuple[float, float] = (0.5, 1.0)  # share of the image's area
    augment_ops: int = 2  # RandAugment: operations an image
    augment_magnitude: float = 0.4  # of each operation's strongest form, 0 to 1
    magnitude_std: float | None = None  # None: strengths are even up to the magnitude; else normal around it, so wide
    augment_probability: float = 1.0  # that an operation which an image drew is applied
    color_jitter: float = 0.0  # of brightness, contrast and saturation, instead of RandAugment: factors of 1 +- this
    erase_probability: float = 0.0  # random erasing: that a box of an image becomes noise
    repeats: int = 1  # repeated augmentation: of a part of the images, each is shown so often in an epoch as long
    mix_probability: float = 0.3  # that a batch is mixed; mixup and cutmix are equally likely
    mix_alpha: float = 0.8
    ema_decay: float = 0.999
    packing: Packing | None = None  # None: images of one size, one beside the other
    distillation: Distillation | None = None  # None: with a teacher, the defaults
    quantization_aware: QuantizationAware | None = None
    attention_distance: bool = False  # measure after each epoch how far the attention of each block reaches
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast; weights and optimizer stay in float32
    model: dict[str, Any] = msgspec.field(
        default_factory=dict
    )  # options of the model's config for training, such as dropout

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie between {low:,} and {high:,}, not {getattr(self, name)}")
        if not all(32 <= size <= 4096 for size in self.sizes):
            raise ValueError(f"sizes must lie between 32 and 4096 pixels, not {', '.join(map(str, self.sizes))}")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError("crop_scale must be two increasing shares of the area in (0, 1]")
        if self.magnitude_std is not None and not 0 <= self.magnitude_std <= 1:
            raise ValueError(f"magnitude_std must lie between 0 and 1, not {self.magnitude_std}")
        if self.color_jitter and self.augment_ops:
            raise ValueError("color_jitter is for trainings without RandAugment: set augment_ops to 0")
        if self.packing is not None and (self.mix_probability or self.sizes):
            raise ValueError(
                "packing draws the size of each image, and none is mixed with another: leave out sizes, and "
                "set mix_probability to 0"
            )

    def learning_rate_at(self, progress: float) -> float:
        """Linear warm-up, then cosine decay; `progress` is the finished share of the training, 0 to 1."""
        warmup = min(self.warmup_epochs / self.epochs, 0.5)
        if progress < warmup:
            return self.learning_rate * max(progress / warmup, 1e-3)
        cosine = 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * cosine

    def sizes_at(self, progress: float, image_size: int) -> tuple[int, ...]:
        """The input sizes that a batch may draw when `progress` of the training is done."""
        if not self.sizes or progress >= 1 - self.final_share:
            return (image_size,)
        ordered = tuple(sorted(self.sizes))
        allowed = 1 + int(progress / self.size_ramp * len(ordered)) if self.size_ramp else len(ordered)
        return ordered[:allowed]

    def batch_size_at(self, size: int, image_size: int) -> int:
        """Images a step at input size `size`: as many pixels as at `image_size`, at most 4 * `batch_size` images."""
        return max(2, min(4 * self.batch_size, round(self.batch_size * (image_size / size) ** 2)))


# The default of `mobilevit train --pack`.
PACKED_RECIPE = Recipe(packing=Packing(), mix_probability=0.0)

# The default of `mobilevit train --labels`: the answers that are stored are of images that are not mixed, and are all
# that is learned. Their augmentation replaces this one's.
LABELS_RECIPE = Recipe(mix_probability=0.0, label_smoothing=0.0)

# Short and gentle, for a trained network that is its own teacher: the default of `mobilevit train --qat`.
QAT_RECIPE = Recipe(
    epochs=1,
    batch_size=64,
    learning_rate=1e-4,
    final_learning_rate=1e-6,
    warmup_epochs=0.1,
    weight_decay=0.01,
    label_smoothing=0.0,
    crop_scale=(0.8, 1.0),
    augment_ops=0,
    mix_probability=0.0,
    ema_decay=0.99,
    distillation=Distillation(temperature=2.0, weight=0.9, token=False),
    quantization_aware=QuantizationAware(),
)

# The default of `mobilevit prune --finetune`, except for the epochs. The unpruned network's scores teach more than
# labels do.
FINETUNE_RECIPE = Recipe(
    learning_rate=1e-3,
    warmup_epochs=0.1,
    label_smoothing=0.0,
    crop_scale=(0.7, 1.0),
    augment_ops=0,
    mix_probability=0.0,
    ema_decay=0.998,
    distillation=Distillation(temperature=2.0, weight=0.9, token=False),
)


# The default of `mobilevit train --base`: few weights, which need no decay and bear a high learning rate (from 0.002 to
# 0.1 for a small ViT on CIFAR-100, rates below 0.02 learned less).
MEMORY_RECIPE = Recipe(
    epochs=20,
    learning_rate=2e-2,
    final_learning_rate=1e-6,
    warmup_epochs=0.1,
    weight_decay=0.0,
    clip_norm=1.0,
    crop_scale=(0.6, 1.0),
    augment_ops=0,
    mix_probability=0.0,
    ema_decay=0.998,
)

# The default of `mobilevit train` for detectors, DETR's own but for its length, its schedule and its batches. They are
# trained on from weights that the authors needed 500 epochs of COCO for; colors, classes and sizes stay as they are.
DETECTION_RECIPE = Recipe(
    batch_size=16,
    learning_rate=1e-4,
    backbone_rate=0.1,
    final_learning_rate=1e-6,
    weight_decay=1e-4,
    clip_norm=0.1,
    label_smoothing=0.0,
    crop_scale=(0.3, 1.0),
    augment_ops=0,
    mix_probability=0.0,
    ema_decay=0.998,
    model={"dropout": 0.1},
)

# The default of `mobilevit prune --finetune` for detectors, except for the epochs: what is left of the backbone learns
# as fast as the rest.
DETECTION_FINETUNE_RECIPE = msgspec.structs.replace(DETECTION_RECIPE, backbone_rate=1.0, warmup_epochs=0.1)


def as_recipe(given: Recipe | Path | str | None, default: Recipe) -> Recipe:
    """A recipe, or the one in a JSON file; None is the default. Raises RequestError as `read_recipe` does."""
    if given is None:
        return default
    return given if isinstance(given, Recipe) else read_recipe(Path(given))


def make_recipe(
    file: Path | None,
    options: Mapping[str, Any],
    default: Recipe,
    qat: str | None = None,
    quantization: QuantizationRecipe | None = None,
    *,
    pack: bool = False,
) -> Recipe:
    """The recipe of `file`, or the default one, with these fields instead; None keeps a field.

    `qat` is a precision to prepare for, and `quantization` says which layers are then quantized. With `pack` images are
    packed, whether the recipe says how or not. Raises RequestError
    for a file that cannot be read and values out of range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        recipe = as_recipe(file, default)
        if qat:
            aware = recipe.quantization_aware or QuantizationAware()
            layers = quantization or aware.quantization
            given["quantization_aware"] = msgspec.structs.replace(aware, precision=qat, quantization=layers)
        if pack:
            given["packing"] = recipe.packing or Packing()
        return msgspec.structs.replace(recipe, **given)
    except ValueError as error:
        raise RequestError(f"the recipe's {error}") from error


def read_recipe(path: Path) -> Recipe:
    """A recipe from a JSON file; fields that it leaves out have their defaults. Raises RequestError."""
    try:
        return decode_json(read_text(path), Recipe)
    except OSError as error:
        raise RequestError(f"cannot read the recipe {path}: {error.strerror or error}") from error
    except ValueError as error:
        unknown = re.search(r"unknown field `(.+)`", str(error))
        hint = f"; {suggest(unknown[1], Recipe.__struct_fields__)}" if unknown else ""
        raise RequestError(f"{path} is not a training recipe: {error}{hint}") from error
