"""Fine-tuning of a pruned network: a classifier learns from the unpruned one, a detector from its labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.pruning.pruner import Pruned
from mobilevit_sdk.recipe import DETECTION_FINETUNE_RECIPE, FINETUNE_RECIPE, Distillation, Recipe, as_recipe
from mobilevit_sdk.spec import ModelSpec, Strict
from mobilevit_sdk.training.run import train_network


class Finetuned(Strict, frozen=True):
    """The checkpoint after fine-tuning; top-1 and top-5, or average precision, are shares from 0 to 1."""

    checkpoint: str
    epochs: int
    top1: float | None = None
    top5: float | None = None
    ap: float | None = None
    ap50: float | None = None


def finetune_recipe(
    spec: ModelSpec,
    epochs: int,
    *,
    kind: str | None = None,
    temperature: float | None = None,
    file: Path | None = None,
    seed: int = 0,
) -> Recipe:
    """What fine-tunes the network of `spec`, or the recipe of `file`, with these epochs and seed.

    A classifier takes FINETUNE_RECIPE with these settings of the distillation, a detector DETECTION_FINETUNE_RECIPE.
    Raises RequestError for a file that cannot be read, values out of range, and a detector that is to distill.
    """
    if spec.num_queries:
        if kind is not None or temperature is not None:
            raise RequestError(
                f"{spec.model} answers with boxes and learns from labels alone: leave out what distills it"
            )
        recipe = as_recipe(file, DETECTION_FINETUNE_RECIPE)
        return msgspec.structs.replace(recipe, epochs=epochs, seed=seed)
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
    """Train `pruned` by `recipe` in the folder `out`; resumable like `train`. A classifier learns from `original`."""
    start = dataclasses.replace(original, model=pruned.model, spec=pruned.spec)
    teacher = None if pruned.spec.num_queries else original
    done = train_network(
        pruned.spec, start, recipe, train, test, out, teacher=teacher, device=device, progress=progress
    )
    result = done.result
    return Finetuned(checkpoint=str(done.path), epochs=result.epoch, **result.shares)
