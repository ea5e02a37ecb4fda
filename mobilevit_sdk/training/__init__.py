"""Training from scratch or from a checkpoint: seeded, resumable, with the recipe carried in the checkpoint."""

from mobilevit_sdk.training.recipe import Recipe
from mobilevit_sdk.training.trainer import Trainer

__all__ = ["Recipe", "Trainer"]
