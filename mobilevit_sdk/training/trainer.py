"""The training loop. One folder holds one training: its results so far, its metrics, and the state to resume from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.data import ImageDataset, crop_image, to_model_input
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.layers import HasNoDecay
from mobilevit_sdk.models.backbone import HasBackbone, as_rows
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.recipe import Distillation, Recipe
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks import Images, task_of
from mobilevit_sdk.tasks.quality import Quality
from mobilevit_sdk.training.curves import plot_curves
from mobilevit_sdk.training.distillation import Teacher
from mobilevit_sdk.training.ema import ExponentialMovingAverage
from mobilevit_sdk.training.fake_quantization import FakeQuantization
from mobilevit_sdk.training.feeds import make_feed
from mobilevit_sdk.training.metrics import QUALITIES, EpochResult, best_epoch, read_metrics, write_metrics
from mobilevit_sdk.training.progress import EpochDone, Meter, TrainingStep
from mobilevit_sdk.training.schedule import OptimizerStep, generator_for, plan_epoch, shuffled_rows
from mobilevit_sdk.training.state import Identity, epochs_of, labels_sha256, read_state, save_state, unreadable

SAVE_EVERY_SECONDS = 60.0
CALIBRATION_IMAGES = 256
Save = Callable[[nn.Module, ModelSpec, Path], None]  # writes a network to a file


class Trainer:
    """Trains the network of `spec` by `recipe` and keeps everything in the folder `out`.

    These are `model.safetensors` (the averaged weights, after every epoch), `best.safetensors` (those of the epoch with
    the highest top-1 or AP on `test`, of several the first), `state.pt` (to resume from, every minute), `curves.png`,
    `metrics.jsonl` and `recipe.json`. A training that finds its own state in `out` resumes from it and, on the same
    machine with the same number of threads, ends bit for bit where it would have ended without the interruption. With
    more epochs than before it goes on, by the schedule of all of them. With a `teacher`, it also learns from that
    network's answers to the same augmented and mixed images. A quantization-aware training is evaluated twice, in
    floating point and in simulated integers, and saves an ordinary checkpoint. `save` writes other files than
    checkpoints. Raises RequestError when `out` holds another training, when the data or the teacher does not fit the
    head, or when the loss is no longer a number.
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
        teacher: Checkpoint | None = None,
        progress: Progress = silent,
        save: Save = save_checkpoint,
    ) -> None:
        self.task = task_of(spec)
        train, self.test = (self.task.match(images, training=True) for images in (train, test))
        if len(train) < 2:
            raise RequestError(f"{train.source} holds a single image; BatchNorm needs two to train")
        if teacher is None and recipe.distillation is not None:
            raise RequestError("the recipe distills from a teacher; give one as `teacher`")
        if spec.num_queries and (teacher is not None or recipe.quantization_aware is not None):
            what = "from a teacher" if teacher is not None else "in simulated integers"
            raise RequestError(f"{spec.model} answers with boxes, and a detector does not learn {what}: leave that out")
        if recipe.packing and (teacher is not None or recipe.quantization_aware is not None):
            what = "a teacher" if teacher is not None else "simulated integers"
            raise RequestError(
                f"packed images go with no {what}, which takes images of one size: leave one of them out"
            )
        if teacher is not None:
            recipe = msgspec.structs.replace(recipe, distillation=recipe.distillation or Distillation())
        self.spec, self.recipe, self.out, self.device, self.progress = spec, recipe, out, device, progress
        self.save = save
        self.image_size = max(spec.preprocessing.image_size)
        self.model = model.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.average = ExponentialMovingAverage(self.model, recipe.ema_decay)
        aware = recipe.quantization_aware
        self.fake = None if aware is None else FakeQuantization(self.model, aware).to(device)
        self.optimizer = _optimizer(self.model, recipe)
        self.teacher = None if teacher is None else Teacher(teacher, spec, device)
        self.identity = Identity(spec, recipe, labels_sha256(train), self.teacher.sha256 if self.teacher else None)
        self.epoch, self.next_step, self.steps_done = 0, 0, 0
        self.losses: list[float] = []  # of the steps of this epoch
        self.extended_from: int | None = None  # epochs that the training in `out` was to have, if fewer
        self.resumed = self._resume()
        self.feed = make_feed(self.task, spec, recipe, self.model, train, device, progress)
        self._stopping = False

    def run(self) -> EpochResult | None:
        """Train to the end and return the last epoch's result, or None when `stop` was called before."""
        if not self.resumed or self.extended_from:  # from here on, another training is refused the folder
            with replacing(self.out / "recipe.json") as fresh:
                fresh.write_bytes(msgspec.json.format(msgspec.json.encode(self.recipe)))
        if not self.resumed:
            self._calibrate()
            self._save_state()
        meter = Meter(len(self.feed.dataset) * self.recipe.epochs)
        while self.epoch < self.recipe.epochs:
            started, images_before = time.monotonic(), meter.images
            self._train_epoch(meter)
            if self._stopping:
                self._save_state()
                return None
            seconds = time.monotonic() - started
            result = self._finish_epoch(seconds, (meter.images - images_before) / max(seconds, 1e-9))
            epochs = self.recipe.epochs
            done = f"epoch {result.epoch:>{len(str(epochs))}}/{epochs}"
            self.progress(EpochDone(done, self.epoch * len(self.feed.dataset), meter.total, result=result))
        return self.history()[-1]

    def stop(self) -> None:
        """Make `run` save its state and return after the step that it is in. Safe to call from a signal handler."""
        self._stopping = True

    def history(self) -> list[EpochResult]:
        """The results of all finished epochs, those before an interruption included."""
        return read_metrics(self.out / "metrics.jsonl", self.epoch)

    def _train_epoch(self, meter: Meter) -> None:
        """Run the steps that are left of the epoch, or as many as there are before `stop`."""
        total = len(self.feed.dataset)
        rows = shuffled_rows(self.recipe, self.epoch, total)
        steps = plan_epoch(self.recipe, self.epoch, total, self.image_size)[self.next_step :]
        last_save = time.monotonic()
        batches = self.feed.batches([rows[step.start : step.stop].tolist() for step in steps])
        for step, (images, chosen) in zip(steps, batches, strict=True):
            learning_rate = self.recipe.learning_rate_at((self.epoch + step.start / total) / self.recipe.epochs)
            self.losses.append(self._train_step(step, images, chosen, learning_rate))
            self.next_step, self.steps_done = step.index + 1, self.steps_done + 1
            meter.tick(step.stop - step.start)
            if time.monotonic() - last_save > SAVE_EVERY_SECONDS:
                self._save_state()
                last_save = time.monotonic()
            self.progress(self._describe(step, meter))
            if self._stopping:
                break

    def _describe(self, step: OptimizerStep, meter: Meter) -> TrainingStep:
        done, loss, rate = (
            self.epoch * len(self.feed.dataset) + step.stop,
            float(np.mean(self.losses[-50:])),
            meter.rate,
        )
        seconds_left = (meter.total - done) / rate if rate else float("inf")
        left = f"{timedelta(seconds=round(seconds_left))} left · " if rate else ""
        return TrainingStep(
            f"epoch {self.epoch + 1}/{self.recipe.epochs}",
            done,
            meter.total,
            detail=f"{rate:,.0f} images/s · {left}loss {loss:.3f} · {step.size} px",
            epoch=self.epoch + 1,
            epochs=self.recipe.epochs,
            images_per_second=rate,
            seconds_left=seconds_left,
            loss=loss,
            size=step.size,
        )

    def _train_step(self, step: OptimizerStep, images: Any, rows: Sequence[int], learning_rate: float) -> float:
        generator = generator_for(self.recipe.seed, self.epoch, step.index)
        torch.manual_seed(generator.initial_seed())  # dropout and stochastic depth draw from the global generator
        fed = self.feed.prepare(images, rows, step.size, generator)
        self._set_mode((self.epoch + step.start / len(self.feed.dataset)) / self.recipe.epochs)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            answers = self.fake(self.model, fed.x) if self.fake else self.feed.answers(self.model, fed.x)
            taught = self.teacher.scores(fed.images) if self.teacher and fed.images is not None else None
        loss = self.task.loss(answers, fed.targets, self.recipe, taught)
        value = loss.item()
        if not np.isfinite(value):
            raise RequestError(
                f"the loss is {value} in epoch {self.epoch + 1}, step {step.index}; lower the learning rate "
                f"({learning_rate:g}) and start again in a new folder"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("rate", 1.0)
        self.optimizer.step()
        self.average.update(self.model, self.steps_done)
        return value

    def _set_mode(self, progress: float) -> None:
        """Training mode; in the last part of a quantization-aware training, BatchNorm stays in eval mode."""
        self.model.train()
        aware = self.recipe.quantization_aware
        if aware is not None and progress >= 1 - aware.frozen_share:
            for layer in self.model.modules():
                if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    layer.eval()

    def _calibrate(self) -> None:
        """Update the ranges of a quantization-aware training on training images, as a conversion does."""
        if self.fake is None:
            return
        dataset = self.feed.dataset.sample(CALIBRATION_IMAGES)
        pixels = np.stack([crop_image(dataset.image(row), self.spec.preprocessing) for row in range(len(dataset))])
        self.fake.calibrate(self.average.model, map(self._model_input, np.array_split(pixels, -(-len(pixels) // 32))))

    def _finish_epoch(self, seconds: float, images_per_second: float) -> EpochResult:
        quality = self._evaluate("evaluating", self.average.model)
        in_integers: Quality | None = None
        if self.fake is not None:
            self._calibrate()
            in_integers = self._evaluate("evaluating integers", partial(self.fake, self.average.model))
        result = EpochResult(
            epoch=self.epoch + 1,
            loss=float(np.mean(self.losses)),
            learning_rate=self.optimizer.param_groups[0]["lr"],
            images_per_second=images_per_second,
            seconds=seconds,
            quantized_top1=in_integers.shares["top1"] if in_integers else None,
            **{name: quality.shares[name] for name in QUALITIES if name in quality.shares},
        )
        history = [*self.history(), result]
        self.epoch, self.next_step, self.losses = self.epoch + 1, 0, []
        write_metrics(history, self.out / "metrics.jsonl")
        plot_curves(history, self.out / "curves.png", title=f"{self.spec.model} at {self.image_size} px")
        provenance = {
            **self.spec.provenance,
            "trained_by": "mobilevit train",
            "recipe": msgspec.to_builtins(self.recipe),
            **({"teacher": self.teacher.provenance} if self.teacher else {}),
            "data": self.feed.dataset.source.name,
            "test_data": self.test.source.name,
            "test_images": quality.images,
            "epochs_done": result.epoch,
            **{name: round(share, 4) for name, share in quality.shares.items()},
            **({"simulated_integers_top1": round(in_integers.shares["top1"], 4)} if in_integers else {}),
        }
        spec = msgspec.structs.replace(self.spec, provenance=provenance)
        self.save(self.average.model, spec, self.out / "model.safetensors")
        if best_epoch(history) == result:
            self.save(self.average.model, spec, self.out / "best.safetensors")
        self._save_state()
        return result

    def _evaluate(self, what: str, network: Callable[[Tensor], Tensor | tuple[Tensor, ...]]) -> Quality:
        @torch.no_grad()
        def predict(images: Images) -> np.ndarray:
            return as_rows(network(self._model_input(np.asarray(images)))).cpu().numpy()

        def progress(step: Step) -> None:
            self.progress(replace(step, stage=what))

        return self.task.measure(predict, self.test, progress=progress)

    def _model_input(self, images: np.ndarray) -> Tensor:
        """RGB uint8 [B, 3, H, W] -> what the network takes."""
        x = to_model_input(torch.from_numpy(images).to(self.device), self.spec.preprocessing)
        return x.contiguous(memory_format=torch.channels_last)

    def _save_state(self) -> None:
        state = {
            **self.identity.encode(),
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": [self.epoch, self.next_step, self.steps_done],
            "losses": self.losses,
            **({"quantization": self.fake.state_dict()} if self.fake else {}),
        }
        save_state(self.out / "state.pt", state)

    def _resume(self) -> bool:
        """Resume from the state in `out`; False where there is none."""
        path = self.out / "state.pt"
        if not path.exists():
            if (self.out / "model.safetensors").exists():
                raise RequestError(f"{self.out} holds a checkpoint that is not this training's; give another `out`")
            return False
        state, differing = read_state(path, self.identity, self.device)
        if differing:
            raise RequestError(f"{self.out} holds another training ({', '.join(differing)}); give another `out`")
        try:
            planned = epochs_of(state)
            self.extended_from = planned if planned < self.recipe.epochs else None
            self.model.load_state_dict(state["model"])
            self.average.model.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.fake is not None:
                self.fake.load_state_dict(state["quantization"])
            self.epoch, self.next_step, self.steps_done = state["position"]
            self.losses = state["losses"]
        except Exception as error:
            raise unreadable(path, error) from error
        return True


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels, but not biases, positions, tokens and normalization.

    A detector's pretrained backbone has the recipe's share of the learning rate.
    """
    tables = {each for layer in model.modules() if isinstance(layer, HasNoDecay) for each in layer.no_decay()}
    pretrained = model.pretrained if isinstance(model, HasBackbone) else None
    backbone = set(pretrained.parameters()) if pretrained and recipe.backbone_rate != 1 else ()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {(True, False): [], (False, False): []}
    for parameter in model.parameters():
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
