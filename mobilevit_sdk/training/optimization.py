"""An optimizer step: the gradient of the loss of a batch, which processes and parts share, and what it changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import HasNoDecay
from mobilevit_sdk.layers.stochastic_depth import drawing_samples
from mobilevit_sdk.models.backbone import HasBackbone
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.tasks.task import Task
from mobilevit_sdk.training.distillation import Teacher
from mobilevit_sdk.training.feeds import Fed
from mobilevit_sdk.training.hidden import HiddenDistillation
from mobilevit_sdk.training.schedule import OptimizerStep, generator_for, share_of
from mobilevit_sdk.training.world import World

_DEPTH = 1  # the stream of a step's random numbers for stochastic depth


@dataclass(frozen=True)
class Part:
    """The images of a step that this process computes together: their places in its batch, int64 [images].

    `images` is how many each of the processes computes at that time.
    """

    step: OptimizerStep
    places: Tensor
    images: list[int]

    @property
    def rows(self) -> Tensor:
        """Where they are in the epoch's order."""
        return self.places + self.step.start


class Optimization:
    """The network of a training with its optimizer, in all its processes.

    A step gives the same weights, to rounding, however many processes share its batch: the loss is the mean over all
    images, BatchNorm sees all, and stochastic depth drops what it would drop in one process. Only dropout has other
    random numbers in every process.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        recipe: Recipe,
        world: World,
        answers: Callable[[nn.Module, Any], Any],
        hidden: HiddenDistillation | None = None,
    ) -> None:
        self.model, self.task, self.recipe, self.world, self.hidden = model, task, recipe, world, hidden
        self.optimizer = optimizer_for(model, recipe, hidden)
        self.teacher: Teacher | None = None
        self.precision: Literal["fp32", "bf16"] = recipe.precision
        self.teaching = True  # whether it is the teacher's part of the training
        self._answering = world.join(_Answering(model, answers, hidden))

    def parts(self, step: OptimizerStep) -> list[Part]:
        """What this process computes of a step, part by part."""
        batch = step.stop - step.start
        count = max(1, min(self.recipe.accumulation, -(-batch // 2) // self.world.size))
        shares = [share_of(batch, count, index) for index in range(count)]
        found = []
        for share in shares:
            own = [share_of(len(share), self.world.size, rank) for rank in range(self.world.size)]
            found.append(Part(step, share[own[self.world.rank]], [len(each) for each in own]))
        return found

    def step(
        self, fed: Sequence[Fed], parts: Sequence[Part], epoch: int, learning_rate: float, stopping: bool
    ) -> tuple[float, bool]:
        """Learn from what was made of `parts`; the loss, a mean over the step's images, and whether to stop.

        That is when a process is `stopping`. Raises RequestError where the loss is no longer a number.
        """
        step, world = parts[0].step, self.world
        batch, whole = step.stop - step.start, len(parts) == world.size == 1
        targets: Sequence[Any] = [each.targets for each in fed]
        if not whole:
            targets = self.task.divided(targets, world.sum)
        self._seed_dropout(epoch, step.index)
        self.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for index, (each, wanted, part) in enumerate(zip(fed, targets, parts, strict=True)):
            share = len(part.places) / batch
            world.shares.set(part.images)
            with world.gathering(self._answering, last=index == len(parts) - 1):
                with self.mixed_precision(), self._drawing(part, epoch, packed=each.packed):
                    taught, maps = self._taught(each.images)
                    answers, apart = self._answering(each.x, maps)
                loss = self.task.loss(answers, wanted, self.recipe, taught)
                loss = loss if apart is None else loss + apart
                value += share * loss.item()
                world.accelerator.backward(loss if whole else loss * (share * world.size))  # processes are averaged
        value, stops = world.sum([value, float(stopping)])
        if not np.isfinite(value):
            raise RequestError(
                f"the loss is {value} in epoch {epoch + 1}, step {step.index}; lower the learning rate "
                f"({learning_rate:g}) and start again in a new folder"
            )
        world.accelerator.clip_grad_norm_(self._answering.parameters(), self.recipe.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("rate", 1.0)
        self.optimizer.step()
        return value, stops > 0

    def _taught(self, images: Tensor | None) -> tuple[Tensor | None, list[Tensor] | None]:
        """The teacher's scores for images, and the maps of its layers that others learn from, where there are any."""
        if self.teacher is None or images is None or not self.teaching:
            return None, None
        if self.hidden is None:
            return self.teacher.scores(images), None
        with self.hidden.watch_teacher() as maps:
            return self.teacher.scores(images), maps

    def mixed_precision(self) -> AbstractContextManager[Any]:
        """Around what runs in the training's precision."""
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _seed_dropout(self, epoch: int, step: int) -> None:
        """Dropout draws from the global generator, element by element: in every process others."""
        stream = self.world.rank and self.world.rank + _DEPTH
        torch.manual_seed(generator_for(self.recipe.seed, epoch, step, stream).initial_seed())

    def _drawing(self, part: Part, epoch: int, *, packed: bool) -> AbstractContextManager[None]:
        """Stochastic depth draws for all images of the step and takes those of this part.

        Where images are packed, it drops a sequence, and these belong to one process.
        """
        if packed:
            return nullcontext()
        batch = part.step.stop - part.step.start
        generator = generator_for(self.recipe.seed, epoch, part.step.index, _DEPTH)
        return drawing_samples(lambda _: torch.rand(batch, generator=generator)[part.places])


class _Answering(nn.Module):
    """A network as a training calls it, so that what exchanges gradients sees the call."""

    def __init__(
        self, model: nn.Module, answers: Callable[[nn.Module, Any], Any], hidden: HiddenDistillation | None
    ) -> None:
        super().__init__()
        self.model, self.answers, self.hidden = model, answers, hidden

    def forward(self, x: Any, maps: list[Tensor] | None) -> tuple[Any, Tensor | None]:
        """The answers, and how far hidden layers are from the teacher's `maps`."""
        if self.hidden is None or maps is None:
            return self.answers(self.model, x), None
        with self.hidden.watch_student() as own:
            answers = self.answers(self.model, x)
        return answers, self.hidden(own, maps, tuple(x.shape[-2:]))


def optimizer_for(model: nn.Module, recipe: Recipe, beside: nn.Module | None = None) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels, but not biases, positions, tokens and normalization.

    A detector's pretrained backbone has the recipe's share of the learning rate. `beside` learns, too.
    """
    tables = {each for layer in model.modules() if isinstance(layer, HasNoDecay) for each in layer.no_decay()}
    pretrained = model.pretrained if isinstance(model, HasBackbone) else None
    backbone = set(pretrained.parameters()) if pretrained and recipe.backbone_rate != 1 else ()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {(True, False): [], (False, False): []}
    for parameter in (*model.parameters(), *(beside.parameters() if beside else ())):
        decays = parameter.ndim > 1 and parameter not in tables
        groups.setdefault((decays, parameter in backbone), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": recipe.weight_decay if decays else 0.0,
                "rate": recipe.backbone_rate if slow else 1.0,
            }
            for (decays, slow), parameters in groups.items()
        ],
        lr=recipe.learning_rate,
        fused=True,
    )
