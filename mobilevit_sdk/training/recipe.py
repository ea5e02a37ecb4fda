"""A training recipe as data: what is needed, beside the images, to train the same network again."""

from __future__ import annotations

import math
from typing import Any, Literal

from mobilevit_sdk.spec import Strict


class Recipe(Strict, frozen=True, kw_only=True):
    """AdamW with cosine decay after a warm-up, label smoothing, augmentation, EMA and multi-scale batches.

    `sizes` are the square inputs, in pixels, of the multi-scale sampler (MobileViT, section 3.2): each batch draws one,
    and smaller inputs come in proportionally larger batches, so that every step costs about the same memory. The
    smallest come first: the largest size that may be drawn grows over the first `size_ramp` of the training, and the
    last `final_share` uses the evaluation size alone.
    """

    epochs: int = 100
    batch_size: int = 128  # images a step at the evaluation size
    sizes: tuple[int, ...] = ()  # empty: the evaluation size alone
    size_ramp: float = 0.4
    final_share: float = 0.15
    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-5
    warmup_epochs: float = 2.0
    weight_decay: float = 0.05  # not on biases and normalisation
    clip_norm: float = 5.0
    label_smoothing: float = 0.1
    crop_scale: tuple[float, float] = (0.5, 1.0)  # share of the image's area
    augment_ops: int = 2  # RandAugment: operations an image
    augment_magnitude: float = 0.4  # of each operation's strongest form, 0 to 1
    mix_probability: float = 0.3  # of a batch to be mixed, by mixup or cutmix in equal parts
    mix_alpha: float = 0.8
    ema_decay: float = 0.999
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast; weights and optimiser stay in float32
    model: dict[str, Any] = {}  # options of the model's config for training, such as dropout

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("epochs and batch_size must be at least 1")
        if any(size < 32 for size in self.sizes):
            raise ValueError("sizes must be at least 32 pixels")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError("crop_scale must be two increasing shares of the area in (0, 1]")

    def learning_rate_at(self, progress: float) -> float:
        """Linear warm-up, then half a cosine; `progress` is the share of the training that is done, 0 to 1."""
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
        """Images a step at input size `size`: the same number of pixels as at `image_size`, at most four times."""
        return max(1, min(4 * self.batch_size, round(self.batch_size * (image_size / size) ** 2)))
