"""Fine-tuning of a pruned network, which learns from the unpruned one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.pruning.pruner import Pruned
from mobilevit_sdk.recipe import FINETUNE_RECIPE, Distillation, Recipe, as_recipe
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.training.run import train_network


class Finetuned(Strict, frozen=True):
    """The checkpoint after fine-tuning; accuracies are shares from 0 to 1."""

    checkpoint: str
    epochs: int
    top1: float
    top5: float


def finetune_recipe(
    epochs: int, *, kind: str | None = None, temperature: float | None = None, file: Path | None = None, seed: int = 0
) -> Recipe:
    """FINETUNE_RECIPE, or that of `file`, with these epochs, seed and settings of the distillation.

    Raises RequestError for a file that cannot be read and values out of range.
    """
    try:
        recipe = as_recipe(file, FINETUNE_RECIPE)
        how = recipe.distillation or FINETUNE_RECIPE.distillation or Distillation()
        given = {"kind": kind, "temperature": temperature}
        how = msgspec.structs.replace(how, **{name: value for name, value in given.items() if value is not None})
        return msgspec.structs.replace(recipe, epochs=epochs, seed=seed, distillation=how)
    except ValueError as error:
        raise RequestError(f"the recipe's {error}") from error


def finetune(
    pruned: Pruned,
    original: Checkpoint,
    recipe: Recipe,
    train: ImageDataset,
    test: ImageDataset,
    out: Path,
    *,
    device: str = "auto",
    progress: Progress = silent,
) -> Finetuned:
    """Train `pruned` by `recipe` in the folder `out`, with `original` as its teacher; resumable like `train`."""
    start = dataclasses.replace(original, model=pruned.model, spec=pruned.spec)
    done = train_network(
        pruned.spec, start, recipe, train, test, out, teacher=original, device=device, progress=progress
    )
    result = done.result
    return Finetuned(checkpoint=str(done.path), epochs=result.epoch, **result.shares)
