"""Training from scratch or from a checkpoint: seeded, resumable, with the recipe carried in the checkpoint."""

from mobilevit_sdk.training.progress import EpochResult, TrainingProgress
from mobilevit_sdk.training.recipe import (
    FINETUNE_RECIPE,
    QAT_RECIPE,
    Distillation,
    QuantizationAware,
    Recipe,
    read_recipe,
)
from mobilevit_sdk.training.trainer import Trainer

__all__ = [
    "FINETUNE_RECIPE",
    "QAT_RECIPE",
    "Distillation",
    "EpochResult",
    "QuantizationAware",
    "Recipe",
    "Trainer",
    "TrainingProgress",
    "read_recipe",
]
