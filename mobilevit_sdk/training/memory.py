"""Training of a further task on a frozen network by learnable memory (arXiv 2203.15243): see `layers.memory`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.features import classifier_of
from mobilevit_sdk.checkpoints.load import as_checkpoint
from mobilevit_sdk.checkpoints.task_file import (
    TaskFile,
    TaskHeader,
    add_tasks,
    save_task,
    task_sha256,
    weights_sha256,
)
from mobilevit_sdk.data import ImageDataset
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models.backbone import LearnsTasks
from mobilevit_sdk.progress import Progress, silent
from mobilevit_sdk.recipe import MEMORY_RECIPE, Recipe, as_recipe
from mobilevit_sdk.spec import MemoryTask, ModelSpec
from mobilevit_sdk.text import shorten
from mobilevit_sdk.training.run import Trained, device_named, labeled_split, run_training
from mobilevit_sdk.training.start import class_count
from mobilevit_sdk.training.tracking import check_tracker
from mobilevit_sdk.training.trainer import Trainer

_IN_HEADER = ("base", "task", "memory", "extends")  # of the spec's provenance: fields of a task file of their own


def train_task(
    base: Checkpoint | Path | str,
    data: ImageDataset | Path | str,
    test_data: ImageDataset | Path | str | None,
    out: Path | str,
    *,
    task: str,
    memory: int = 5,
    extends: Sequence[TaskFile | Path | str] = (),
    test_share: float | None = None,
    recipe: Recipe | Path | str | None = None,
    device: str = "auto",
    progress: Progress = silent,
    track: str | None = None,
) -> Trained:
    """Train a further task on a frozen ViT, DeiT or DeepViT, which keeps its own classes and answers to the bit.

    Only a class token, `memory` memory cells in each block and a head for the classes of `data` learn; with 0 cells,
    token and head alone. `task` names the output that phone files get for it. With `extends`, files of tasks on this
    base, it sees their class tokens and memory as well (the paper's extension); they stay what they are, and have to be
    given together with it from then on. model.safetensors and best.safetensors in `out` are task files of some tens of
    kB, which stand on this `base` and no other: give them to `load_checkpoint` or `convert` as `tasks`. Images are
    prepared as the base's are: a phone prepares them once for all tasks.

    All else is as in `train`, but that the default recipe is MEMORY_RECIPE. Raises RequestError as well for a base that
    is another network, for a name that no task can have or that the base gives to another, and for a recipe of other
    networks, with a teacher, integers or options of the model, and CheckpointError for a task in `extends` on another
    base.
    """
    check_tracker(track)
    checkpoint = as_checkpoint(base)
    if extends:
        checkpoint = add_tasks(classifier_of(checkpoint), extends)
    train_set, test_set = labeled_split(data, test_data, test_share, progress)
    chosen = as_recipe(recipe, MEMORY_RECIPE)
    _check_recipe(chosen)
    extended = tuple(each.name for each in checkpoint.spec.tasks or ()) if extends else ()
    found = _memory_task(checkpoint, task, memory, extended, train_set)
    torch.manual_seed(chosen.seed)
    network = OnBase(checkpoint, found)
    trainer = Trainer(
        network,
        _spec(checkpoint, found),
        chosen,
        train_set,
        test_set,
        Path(out),
        device=device_named(device),
        progress=progress,
        save=_saver(checkpoint, found),
    )
    learned = sum(parameter.numel() for parameter in network.parameters())
    cells = f"{memory} memory cells a block, " if memory else ""
    return run_training(trainer, f"learning {task} on", f"{cells}{learned:,} parameters", track=track)


class OnBase(nn.Module):
    """One task on a frozen network, and on the tasks that it extends. Shapes: [B, 3, H, W] -> [B, num_classes] of it.

    The task is the only submodule, so that nothing but its weights is trained, averaged and saved; the network beside
    it stays in eval mode.
    """

    def __init__(self, base: Checkpoint, task: MemoryTask) -> None:
        super().__init__()
        network = copy.deepcopy(base if task.extends else classifier_of(base)).model.requires_grad_(False).eval()
        assert isinstance(network, LearnsTasks)
        frozen = list(cast("nn.ModuleList", network.tasks)) if task.extends else []
        network.add_tasks((*(base.spec.tasks or ())[: len(frozen)], task))
        tasks = cast("nn.ModuleList", network.tasks)
        for index, each in enumerate(frozen):
            tasks[index] = each
        self._beside = (network,)  # in a tuple, it is no submodule
        self.task = tasks[-1]

    @property
    def network(self) -> nn.Module:
        """With the task."""
        return self._beside[0]

    def forward(self, x: Tensor) -> Tensor:
        *_, scores = self.network(x)
        return cast("Tensor", scores)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OnBase:
        """To another device or memory format, with the network and the task in it."""
        self.network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def _memory_task(base: Checkpoint, name: str, cells: int, extends: tuple[str, ...], data: ImageDataset) -> MemoryTask:
    """The task to learn. Raises RequestError where its name or the base allows none."""
    spec = base.spec
    if not isinstance(base.model, LearnsTasks) or not spec.returns_scores:
        what = "features" if not spec.returns_scores else f"networks of the family {spec.family}"
        raise RequestError(f"a task learns on a ViT, DeiT or DeepViT with classes, not on {what}: give another base")
    classes = {"num_classes": class_count(data), "labels": data.class_names}
    fields = {"name": name, "cells": cells, "extends": extends, **classes}
    try:
        task = msgspec.convert(fields, MemoryTask)
    except msgspec.ValidationError as error:
        problem = "give lowercase letters, digits and _, such as pets" if "regex" in str(error) else str(error)
        raise RequestError(f"a task cannot be {name!r} with {cells} memory cells: {problem}") from error
    if name in (known := [output.name for output in spec.outputs]):
        raise RequestError(f"the base answers {name!r} already ({shorten(known)}): give the task another name")
    return task


def _spec(base: Checkpoint, task: MemoryTask) -> ModelSpec:
    """Of a classifier with the classes of the task; it also says on what the training stands."""
    spec = classifier_of(base).spec
    stands_on = {"model": spec.model, "source": Path(base.source).name, "sha256": weights_sha256(base.model)}
    return msgspec.structs.replace(
        spec,
        config={**spec.config, "num_classes": task.num_classes},
        labels=task.labels,
        license=None,
        provenance={"base": stands_on, "task": task.name, "memory": task.cells, **_extended(base, task)},
    )


def _extended(base: Checkpoint, task: MemoryTask) -> dict[str, dict[str, str]]:
    """What the spec says of the tasks that it extends; of others as before."""
    hashes = {name: task_sha256(base.model, index) for index, name in enumerate(task.extends)}
    return {"extends": hashes} if hashes else {}


def _saver(base: Checkpoint, task: MemoryTask) -> Callable[[nn.Module, ModelSpec, Path], None]:
    """What writes the task file of a network and the spec of its training."""

    def save(network: nn.Module, spec: ModelSpec, path: Path) -> None:
        assert isinstance(network, OnBase)
        known = spec.provenance["base"]
        header = TaskHeader(
            task=task,
            base_model=known["model"],
            base_source=known["source"],
            base_sha256=known["sha256"],
            extended=spec.provenance.get("extends", {}),
            preprocessing=spec.preprocessing,
            provenance={name: value for name, value in spec.provenance.items() if name not in _IN_HEADER},
        )
        save_task(network.network, len(task.extends), header, path)

    return save


def _check_recipe(recipe: Recipe) -> None:
    asked = {
        "distillation": recipe.distillation is not None,
        "quantization_aware": recipe.quantization_aware is not None,
        "model": bool(recipe.model),
        "sizes": bool(recipe.sizes),
    }
    if given := [name for name, value in asked.items() if value]:
        raise RequestError(
            f"a task on a frozen base is trained without {' and '.join(given)}: take it out of the recipe"
        )
