"""Small trainings of vision transformers on images of 32 pixels, as the scientific pages need them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from statistics import mean

import msgspec
from shared import tell

from mobilevit_sdk.models.vit import ViTConfig
from mobilevit_sdk.progress import Step
from mobilevit_sdk.spec import ModelSpec, Preprocessing
from mobilevit_sdk.training import EpochDone, Recipe, TrainingStep

SIZE = 32  # pixels
PREPROCESSING = Preprocessing(
    image_size=(SIZE, SIZE),
    resize_size=SIZE,
    mean=(0.4914, 0.4822, 0.4465),  # of CIFAR-10's training images
    std=(0.247, 0.2435, 0.2616),
)
# Light augmentation: a training of a few epochs learns no more from a strong one.
RECIPE = Recipe(
    batch_size=128,
    warmup_epochs=0.5,
    crop_scale=(0.6, 1.0),
    augment_ops=0,
    mix_probability=0.0,
    ema_decay=0.998,
)


def spec_of(config: ViTConfig, labels: tuple[str, ...] | None, family: str = "vit") -> ModelSpec:
    """A network for CIFAR's images; `model` is the registered one that has the same kinds of blocks."""
    names = {
        "vit": "vit_tiny_patch16_224",
        "deepvit": "deepvit_patch16_224_re_attn_16b",
        "dearkd": "dearkd_tiny_patch16_224",
    }
    return ModelSpec(
        model=names[family],
        family=family,
        config=msgspec.to_builtins(config),
        preprocessing=PREPROCESSING,
        labels=labels,
    )


class Teller:
    """Progress of a training as a line a minute, and one an epoch."""

    def __init__(self, what: str) -> None:
        self.what, self.told = what, time.monotonic()

    def __call__(self, step: Step) -> None:
        if isinstance(step, EpochDone):
            tell(f"{self.what}: {step.stage}, top-1 {step.result.top1:.1%}")
        elif isinstance(step, TrainingStep) and time.monotonic() - self.told > 60:
            self.told = time.monotonic()
            tell(f"{self.what}: {step.stage}, {step.detail}")


def chance(top1: float, images: int, runs: int) -> float:
    """The difference of two networks' top-1 that chance alone exceeds in 5% of cases, as if on images of their own.

    `images` judge each of the `runs` of both. On the same images it is smaller, so that this errs toward a tie.
    """
    return 1.96 * math.sqrt(2 * top1 * (1 - top1) / (images * runs))


def verdict(ours: Sequence[float], theirs: Sequence[float], images: int) -> str:
    """What the difference of two arms' top-1, paired by seed, comes to: "better", "worse" or "a tie".

    A tie where the seeds disagree, where the seeds of an arm differ by more, and where chance on so few images would
    do; one seed is never more than that chance.
    """
    differences = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    difference = mean(differences)
    spread = max(max(arm) - min(arm) for arm in (ours, theirs))
    agree = all(each * difference > 0 for each in differences)
    if not agree or abs(difference) <= max(spread, chance(mean([*ours, *theirs]), images, len(ours))):
        return "a tie"
    return "better" if difference > 0 else "worse"


def each_and_mean(shares: Sequence[float]) -> str:
    """The cells of all seeds, and of several the mean."""
    seeds = " / ".join(f"{share:.1%}" for share in shares)
    return seeds if len(shares) < 2 else f"{seeds} ({mean(shares):.1%})"
