"""The training loop. One folder holds one training: what it has reached, what it measured, and how to go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevit_sdk.checkpoint import save_checkpoint
from mobilevit_sdk.data import ImageDataset, to_model_input
from mobilevit_sdk.errors import CheckpointError, RequestError
from mobilevit_sdk.evaluate import check_labels, evaluate
from mobilevit_sdk.files import replacing
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.training.augment import augment, mix
from mobilevit_sdk.training.curves import plot_curves
from mobilevit_sdk.training.ema import ExponentialMovingAverage
from mobilevit_sdk.training.pixels import Squares
from mobilevit_sdk.training.recipe import Recipe

SAVE_EVERY_SECONDS = 60.0


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands; `epoch` counts from 1, images are those of all epochs."""

    epoch: int
    epochs: int
    images_done: int
    images_total: int
    images_per_second: float
    seconds_left: float
    loss: float
    size: int


@dataclass(frozen=True)
class EpochResult:
    epoch: int
    loss: float
    learning_rate: float
    top1: float
    top5: float
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class Step:
    """One optimiser step: rows [start, stop) of the epoch's permutation, at input size `size`."""

    index: int
    start: int
    stop: int
    size: int


class Trainer:
    """Train the network of `spec` by `recipe` and keep everything in the folder `out`.

    `model.safetensors` (the averaged weights, after every epoch), `state.pt` (to go on from, every minute),
    `metrics.jsonl`, `curves.png` and `recipe.json`. A training that finds its own state in `out` goes on from it and
    ends bit for bit where it would have ended without the interruption. Raises RequestError when `out` holds another
    training, when the data do not fit the head, or when the loss is no longer a number.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: ModelSpec,
        recipe: Recipe,
        train: ImageDataset,
        test: ImageDataset,
        out: Path,
        *,
        device: torch.device,
    ) -> None:
        check_labels(train, spec)
        check_labels(test, spec)
        self.spec, self.recipe, self.test, self.out, self.device = spec, recipe, test, out, device
        self.image_size = max(spec.preprocessing.image_size)
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.average = ExponentialMovingAverage(self.model, recipe.ema_decay)
        self.optimizer = _optimizer(self.model, recipe)
        self.squares = Squares(train, max(*recipe.sizes, self.image_size) if recipe.sizes else self.image_size)
        self.epoch, self.next_step, self.steps_done = 0, 0, 0
        self.losses: list[float] = []  # of the steps of this epoch
        self._begin_or_resume()

    def run(
        self,
        on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
        on_epoch: Callable[[EpochResult], None] = lambda result: None,
    ) -> Path:
        """Train to the end and return the path of the averaged weights."""
        meter = _Meter(len(self.squares) * self.recipe.epochs)
        while self.epoch < self.recipe.epochs:
            started = time.monotonic()
            for progress in self._train_epoch(meter):
                on_progress(progress)
            on_epoch(self._finish_epoch(meter, time.monotonic() - started))
        return self.out / "model.safetensors"

    def _train_epoch(self, meter: _Meter) -> Iterator[TrainingProgress]:
        total = len(self.squares)
        permutation = torch.randperm(total, generator=self._generator(step=-1))
        steps = self._plan_epoch()[self.next_step :]
        last_save = time.monotonic()
        loader = self.squares.loader([permutation[step.start : step.stop].tolist() for step in steps])
        for step, (images, labels) in zip(steps, loader, strict=True):
            learning_rate = self.recipe.learning_rate_at((self.epoch + step.start / total) / self.recipe.epochs)
            self.losses.append(self._train_step(step, images, labels, learning_rate))
            self.next_step, self.steps_done = step.index + 1, self.steps_done + 1
            done = self.epoch * total + step.stop
            meter.tick(step.stop - step.start, done)
            if time.monotonic() - last_save > SAVE_EVERY_SECONDS:
                self._save_state()
                last_save = time.monotonic()
            recent = float(np.mean(self.losses[-50:]))
            yield TrainingProgress(
                self.epoch + 1, self.recipe.epochs, done, meter.total, meter.rate, meter.seconds_left, recent, step.size
            )

    def _plan_epoch(self) -> list[Step]:
        """Cut the epoch into steps; a last batch of a single image joins none, because BatchNorm needs two."""
        generator, total = self._generator(step=-2), len(self.squares)
        steps: list[Step] = []
        start = 0
        while start < total:
            sizes = self.recipe.sizes_at((self.epoch + start / total) / self.recipe.epochs, self.image_size)
            size = sizes[int(torch.randint(len(sizes), (), generator=generator))]
            stop = min(total, start + self.recipe.batch_size_at(size, self.image_size))
            if stop - start > 1:
                steps.append(Step(len(steps), start, stop, size))
            start = stop
        return steps

    def _train_step(self, step: Step, images: Tensor, labels: Tensor, learning_rate: float) -> float:
        generator = self._generator(step.index)
        torch.manual_seed(generator.initial_seed())  # dropout and stochastic depth draw from the global generator
        targets = F.one_hot(labels, self.spec.num_classes).float().to(self.device)
        images = augment(images.to(self.device), step.size, self.recipe, generator)
        images, targets = mix(images, targets, self.recipe, generator)
        x = to_model_input(images, self.spec.preprocessing).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            scores = self.model(x)
        loss = F.cross_entropy(scores.float(), targets, label_smoothing=self.recipe.label_smoothing)
        value = loss.item()
        if not np.isfinite(value):
            raise RequestError(
                f"the loss is {value} in epoch {self.epoch + 1}, step {step.index}; lower the learning rate "
                f"({learning_rate:g}) and start again in a new folder"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.average.update(self.model, self.steps_done)
        return value

    def _finish_epoch(self, meter: _Meter, seconds: float) -> EpochResult:
        accuracy = evaluate(self._predict, self.spec, self.test)
        result = EpochResult(
            epoch=self.epoch + 1,
            loss=float(np.mean(self.losses)),
            learning_rate=self.optimizer.param_groups[0]["lr"],
            top1=accuracy.top1,
            top5=accuracy.top5,
            images_per_second=meter.rate,
            seconds=seconds,
        )
        self.epoch, self.next_step, self.losses = self.epoch + 1, 0, []
        history = [row for row in self._history() if row["epoch"] < result.epoch]
        history.append(msgspec.to_builtins(result))
        with replacing(self.out / "metrics.jsonl") as fresh:
            fresh.write_text("".join(json.dumps(row) + "\n" for row in history))
        plot_curves(history, self.out / "curves.png", title=f"{self.spec.model} at {self.image_size} px")
        provenance = {
            "trained_by": "mobilevit train",
            "recipe": msgspec.to_builtins(self.recipe),
            "data": self.squares.images.source.name,
            "test_data": self.test.source.name,
            "test_images": accuracy.images,
            "epochs_done": result.epoch,
            "top1": round(accuracy.top1, 4),
            "top5": round(accuracy.top5, 4),
        }
        spec = msgspec.structs.replace(self.spec, provenance=provenance)
        save_checkpoint(self.average.model, spec, self.out / "model.safetensors")
        self._save_state()
        return result

    @torch.no_grad()
    def _predict(self, images: np.ndarray) -> np.ndarray:
        x = to_model_input(torch.from_numpy(images).to(self.device), self.spec.preprocessing)
        scores: Tensor = self.average.model(x.contiguous(memory_format=torch.channels_last))
        return scores.cpu().numpy()

    def _generator(self, step: int) -> torch.Generator:
        """Random numbers that depend on the seed, the epoch and the step, and on nothing that came before."""
        words = np.random.SeedSequence((self.recipe.seed, self.epoch, step + 2)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(words[0] >> 1))

    def _history(self) -> list[dict[str, Any]]:
        path = self.out / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _save_state(self) -> None:
        state = {
            "spec": msgspec.json.encode(self.spec).decode(),
            "recipe": msgspec.json.encode(self.recipe).decode(),
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": [self.epoch, self.next_step, self.steps_done],
            "losses": self.losses,
        }
        with replacing(self.out / "state.pt") as fresh:
            torch.save(state, fresh)

    def _begin_or_resume(self) -> None:
        path = self.out / "state.pt"
        if not path.exists():
            with replacing(self.out / "recipe.json") as fresh:
                fresh.write_bytes(msgspec.json.format(msgspec.json.encode(self.recipe)))
            return
        try:
            state = torch.load(path, weights_only=True, map_location=self.device)
            same = state["recipe"].encode() == msgspec.json.encode(self.recipe)
            same &= state["spec"].encode() == msgspec.json.encode(self.spec)
            if same:
                self.model.load_state_dict(state["model"])
                self.average.model.load_state_dict(state["average"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.epoch, self.next_step, self.steps_done = state["position"]
                self.losses = state["losses"]
        except Exception as error:  # torch.load raises many kinds on a foreign file
            raise CheckpointError(f"{path} is no training state of this SDK ({type(error).__name__})") from error
        if not same:
            raise RequestError(f"{self.out} holds a training with another recipe or model; give another --out")


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels, not biases and normalisation."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[parameter.ndim > 1].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": recipe.weight_decay},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        fused=True,
    )


class _Meter:
    """Images a second over the last minute, and the time that is left at that rate."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.ticks: list[tuple[float, int]] = [(time.monotonic(), 0)]

    def tick(self, images: int, done: int) -> None:
        self.done = done
        now = time.monotonic()
        self.ticks.append((now, images))
        while len(self.ticks) > 2 and now - self.ticks[0][0] > 60:
            self.ticks.pop(0)

    @property
    def rate(self) -> float:
        seconds = self.ticks[-1][0] - self.ticks[0][0]
        return sum(images for _, images in self.ticks[1:]) / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        return (self.total - self.done) / self.rate if self.rate else float("inf")
