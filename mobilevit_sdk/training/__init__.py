"""Training from scratch or from a checkpoint: seeded, resumable, with the recipe carried in the checkpoint."""

from mobilevit_sdk.recipe import (
    FINETUNE_RECIPE,
    LABELS_RECIPE,
    MEMORY_RECIPE,
    QAT_RECIPE,
    Distillation,
    HiddenLayer,
    QuantizationAware,
    Recipe,
    read_recipe,
)
from mobilevit_sdk.training.labeling import CheckedLabels, Labeled, check_labels, store_labels
from mobilevit_sdk.training.labels import StoredLabels, open_labels
from mobilevit_sdk.training.memory import train_task
from mobilevit_sdk.training.metrics import EpochResult
from mobilevit_sdk.training.progress import EpochDone, TrainingStarted, TrainingStep, TrainingStopped
from mobilevit_sdk.training.run import Trained, train
from mobilevit_sdk.training.sweeps import Sweep, sweep
from mobilevit_sdk.training.teachers import TeacherNetwork, open_teacher
from mobilevit_sdk.training.trainer import Trainer

__all__ = [
    "FINETUNE_RECIPE",
    "LABELS_RECIPE",
    "MEMORY_RECIPE",
    "QAT_RECIPE",
    "CheckedLabels",
    "Distillation",
    "EpochDone",
    "EpochResult",
    "HiddenLayer",
    "Labeled",
    "QuantizationAware",
    "Recipe",
    "StoredLabels",
    "Sweep",
    "TeacherNetwork",
    "Trained",
    "Trainer",
    "TrainingStarted",
    "TrainingStep",
    "TrainingStopped",
    "check_labels",
    "open_labels",
    "open_teacher",
    "read_recipe",
    "store_labels",
    "sweep",
    "train",
    "train_task",
]
