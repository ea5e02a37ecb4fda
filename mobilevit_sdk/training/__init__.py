"""Training from scratch or from a checkpoint: seeded, resumable, with the recipe carried in the checkpoint."""

from mobilevit_sdk.recipe import (
    FINETUNE_RECIPE,
    MEMORY_RECIPE,
    QAT_RECIPE,
    Distillation,
    QuantizationAware,
    Recipe,
    read_recipe,
)
from mobilevit_sdk.training.memory import train_task
from mobilevit_sdk.training.metrics import EpochResult
from mobilevit_sdk.training.progress import EpochDone, TrainingStarted, TrainingStep, TrainingStopped
from mobilevit_sdk.training.run import Trained, train
from mobilevit_sdk.training.trainer import Trainer

__all__ = [
    "FINETUNE_RECIPE",
    "MEMORY_RECIPE",
    "QAT_RECIPE",
    "Distillation",
    "EpochDone",
    "EpochResult",
    "QuantizationAware",
    "Recipe",
    "Trained",
    "Trainer",
    "TrainingStarted",
    "TrainingStep",
    "TrainingStopped",
    "read_recipe",
    "train",
    "train_task",
]
