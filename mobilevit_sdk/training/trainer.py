"""The training loop. One folder holds one training: its results so far, its metrics, and the state to resume from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.checkpoint import Checkpoint, save_checkpoint
from mobilevit_sdk.data import ImageDataset, crop_image, to_model_input
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.evaluation.attention_distance import attention_distances
from mobilevit_sdk.files import replacing
from mobilevit_sdk.models.backbone import as_rows
from mobilevit_sdk.models.registry import model_config
from mobilevit_sdk.progress import Progress, Step, silent
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks import Images, task_of
from mobilevit_sdk.tasks.draws import Draws
from mobilevit_sdk.tasks.quality import Quality
from mobilevit_sdk.training.curves import plot_attention_distances, plot_curves
from mobilevit_sdk.training.distillation import make_teacher
from mobilevit_sdk.training.ema import ExponentialMovingAverage
from mobilevit_sdk.training.fake_quantization import FakeQuantization
from mobilevit_sdk.training.heads import watch_heads
from mobilevit_sdk.training.hidden import HiddenDistillation
from mobilevit_sdk.training.labels import StoredLabels, labeled_feed
from mobilevit_sdk.training.metrics import QUALITIES, EpochResult, best_epoch, read_metrics, write_metrics
from mobilevit_sdk.training.optimization import Optimization, Part
from mobilevit_sdk.training.precision import CPU_IMAGES, Precision, measured
from mobilevit_sdk.training.progress import EpochDone, Meter, training_step
from mobilevit_sdk.training.schedule import generator_for, plan_epoch, shuffled_rows
from mobilevit_sdk.training.start import checked_recipe
from mobilevit_sdk.training.state import Identity, epochs_of, labels_sha256, read_state, save_state, unreadable
from mobilevit_sdk.training.teachers import TeacherNetwork
from mobilevit_sdk.training.world import World, check_batches

SAVE_EVERY_SECONDS = 60.0
CALIBRATION_IMAGES = 256
ATTENTION_IMAGES = 64
Save = Callable[[nn.Module, ModelSpec, Path], None]  # writes a network to a file


class Trainer:
    """Trains the network of `spec` by `recipe` and keeps everything in the folder `out`.

    These are `model.safetensors` (the averaged weights, after every epoch), `best.safetensors` (those of the epoch with
    the highest top-1 or AP on `test`, of several the first), `state.pt` (to resume from, every minute), `curves.png`,
    `metrics.jsonl` and `recipe.json`. A training that finds its own state in `out` resumes from it and, on the same
    machine with the same number of threads, ends bit for bit where it would have ended without the interruption. With
    more epochs than before it goes on, by the schedule of all of them. With a `teacher`, it also learns from that
    network's answers to the same augmented and mixed images; with `labels`, from what one answered. A quantization-
    aware training is evaluated twice, in floating point and in simulated integers, and saves an ordinary checkpoint.
    `save` writes other files than checkpoints. Raises RequestError when `out` holds another training, when the data or
    the teacher does not fit the head, or when the loss is no longer a number.
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
        teacher: Checkpoint | TeacherNetwork | Sequence[Checkpoint | TeacherNetwork] | None = None,
        labels: StoredLabels | None = None,
        progress: Progress = silent,
        save: Save = save_checkpoint,
    ) -> None:
        self.task = task_of(spec)
        train, self.test = (self.task.match(images, training=True) for images in (train, test))
        if labels is not None:
            recipe = labels.recipe_for(recipe, spec, alone=teacher is None)
        recipe = checked_recipe(recipe, spec, train, taught=teacher is not None)
        self.image_size = max(spec.preprocessing.image_size)
        check_batches(recipe, self.image_size)
        self.world = World(device)
        self.device = device = self.world.device
        self.spec, self.recipe, self.out, self.save = spec, recipe, out, save
        self.progress = progress if self.world.is_first else silent
        self.model = model.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.average = ExponentialMovingAverage(self.model, recipe.ema_decay)
        aware = recipe.quantization_aware
        self.fake = None if aware is None else FakeQuantization(self.model, aware).to(device)
        self.teacher = None if teacher is None else make_teacher(teacher, spec, device)
        self.labels, taught_by = labels, labels or self.teacher
        self.identity = Identity(spec, recipe, labels_sha256(train), taught_by.sha256 if taught_by else None)
        self.epoch, self.next_step, self.steps_done = 0, 0, 0
        self.losses: list[float] = []  # of the steps of this epoch
        self.precision = Precision(used=recipe.precision)
        self.extended_from: int | None = None  # epochs that the training in `out` was to have, if fewer
        self.hidden = None
        if self.teacher and recipe.distillation and (pairs := recipe.distillation.hidden):
            self.hidden = HiddenDistillation(pairs, self.model, spec, self.teacher, device, recipe.seed)
        self.optimization = Optimization(self.model, self.task, recipe, self.world, self._answers, self.hidden)
        self.optimization.teacher, self.optimizer = self.teacher, self.optimization.optimizer
        self.resumed = self._resume()
        self.results = self.world.from_first(
            lambda: read_metrics(out / "metrics.jsonl", self.epoch) if self.epoch else []
        )
        self.feed = labeled_feed(labels, self.task, spec, recipe, self.model, train, device, self.progress)
        self._attention_distance()  # of the first weights: what cannot be measured is said now
        if not self.resumed and recipe.precision == "bf16":
            self._choose_precision()
        self.optimization.precision = self.precision.used
        self._stopping = self._stop = False  # this process was told to; all agreed to

    def run(self) -> EpochResult | None:
        """Train to the end and return the last epoch's result, or None when `stop` was called before."""
        if (not self.resumed or self.extended_from) and self.world.is_first:
            # From here on, another training is refused the folder.
            with replacing(self.out / "recipe.json") as fresh:
                fresh.write_bytes(msgspec.json.format(msgspec.json.encode(self.recipe)))
        if not self.resumed:
            self._calibrate()
            self._save_state()
        meter = Meter(len(self.feed.dataset) * self.recipe.epochs)
        while self.epoch < self.recipe.epochs:
            started, images_before = time.monotonic(), meter.images
            self._train_epoch(meter)
            if self._to_stop():
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

    @property
    def images_done(self) -> int:
        """Images of all epochs up to where it is."""
        steps = plan_epoch(self.recipe, self.epoch, len(self.feed.dataset), self.image_size, self.world.size)
        within = steps[self.next_step - 1].stop if self.next_step else 0
        return self.epoch * len(self.feed.dataset) + within

    def history(self) -> list[EpochResult]:
        """The results of all finished epochs, those before an interruption included."""
        return list(self.results)

    def _answers(self, model: nn.Module, x: Any) -> Any:
        return self.fake(model, x) if self.fake else self.feed.answers(model, x)

    def _train_epoch(self, meter: Meter) -> None:
        """Run the steps that are left of the epoch, or as many as there are before `stop`."""
        total = len(self.feed.dataset)
        steps = plan_epoch(self.recipe, self.epoch, total, self.image_size, self.world.size)
        rows = shuffled_rows(self.recipe, self.epoch, steps, self.feed.dataset)
        seeds = self.feed.seeds(self.epoch, rows)
        steps = steps[self.next_step :]
        shares = [self.optimization.parts(step) for step in steps]
        last_save = time.monotonic()
        batches = self.feed.batches([rows[part.rows].tolist() for parts in shares for part in parts])
        for step, parts in zip(steps, shares, strict=True):
            rate = self.recipe.learning_rate_at((self.epoch + step.start / total) / self.recipe.epochs)
            own = list(islice(batches, len(parts)))
            self.losses.append(self._train_step(parts, own, [seeds[part.rows] for part in parts], rate))
            self.next_step, self.steps_done = step.index + 1, self.steps_done + 1
            meter.tick(step.stop - step.start)
            if time.monotonic() - last_save > SAVE_EVERY_SECONDS:
                self._save_state()
                last_save = time.monotonic()
            self.progress(training_step(self.recipe, self.epoch, step, total, self.losses, meter))
            if self._to_stop():
                break

    def _to_stop(self) -> bool:
        return self._stopping if self.world.size == 1 else self._stop

    def _train_step(
        self, parts: Sequence[Part], batches: Sequence[tuple[Any, Sequence[int]]], seeds: Sequence[Tensor], rate: float
    ) -> float:
        """Learn from this process's parts of a step: images with their rows, and seeds. Returns the step's loss."""
        step, fed = parts[0].step, []
        for (images, rows), own in zip(batches, seeds, strict=True):
            draws = Draws(own, generator_for(self.recipe.seed, self.epoch, step.index))
            fed.append(self.feed.prepare(images, rows, step.size, draws))
        self._set_mode((self.epoch + step.start / len(self.feed.dataset)) / self.recipe.epochs)
        loss, stop = self.optimization.step(fed, parts, self.epoch, rate, self._stopping)
        if self.world.size > 1:  # all stop after the same step
            self._stop = stop
        self.average.update(self.model, self.steps_done)
        return loss

    def _set_mode(self, progress: float) -> None:
        """Training mode, and whether the teacher teaches; in the last part for integers, BatchNorm is in eval mode."""
        self.model.train()
        self.optimization.teaching = self.recipe.distillation is None or progress < self.recipe.distillation.until
        aware = self.recipe.quantization_aware
        if aware is not None and progress >= 1 - aware.frozen_share:
            for layer in self.model.modules():
                if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    layer.eval()

    def _choose_precision(self) -> None:
        """bfloat16 where it is the faster one, as measured with images of the training."""
        few = CPU_IMAGES if self.device.type == "cpu" else self.recipe.batch_size
        rows = range(min(few, self.recipe.batch_size // self.world.size, len(self.feed.dataset)))
        (images, chosen), *_ = self.feed.batches([list(rows)])
        draws = Draws(self.feed.seeds(self.epoch, torch.arange(len(rows))), torch.Generator())
        fed = self.feed.prepare(images, chosen, self.image_size, draws)
        fp32, bf16 = self.world.sum(measured(self.model, self._answers, fed.x, self.device))
        self.precision = Precision(used="bf16" if bf16 < fp32 else "fp32", fp32=fp32, bf16=bf16)

    def _calibrate(self) -> None:
        """Update the ranges of a quantization-aware training on training images, as a conversion does."""
        if self.fake is None:
            return
        dataset = self.feed.dataset.sample(CALIBRATION_IMAGES)
        pixels = np.stack([crop_image(dataset.image(row), self.spec.preprocessing) for row in range(len(dataset))])
        self.fake.calibrate(self.average.model, map(self._model_input, np.array_split(pixels, -(-len(pixels) // 32))))

    def _finish_epoch(self, seconds: float, images_per_second: float) -> EpochResult:
        with watch_heads(self.average.model, self.test.labels, self.world) as heads:
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
            **heads,
            attention_distance=self._attention_distance(),
        )
        self.results.append(result)
        self.epoch, self.next_step, self.losses = self.epoch + 1, 0, []
        if self.world.is_first:
            self._write(result, quality.shares | heads, quality.images)
        return result

    def _write(self, result: EpochResult, shares: dict[str, float], test_images: int) -> None:
        """The results of an epoch, its weights and the state."""
        write_metrics(self.results, self.out / "metrics.jsonl")
        title = f"{self.spec.model} at {self.image_size} px"
        plot_curves(self.results, self.out / "curves.png", title=title)
        if result.attention_distance:
            plot_attention_distances(self.results, self.out / "attention.png", title=title)
        provenance = {
            **self.spec.provenance,
            "trained_by": "mobilevit train",
            "recipe": msgspec.to_builtins(self.recipe),
            **({"precision": msgspec.to_builtins(self.precision)} if self.precision.note else {}),
            **({"teacher": self.teacher.provenance} if self.teacher else {}),
            **({"stored_labels": self.labels.provenance} if self.labels else {}),
            "data": self.feed.dataset.source.name,
            "test_data": self.test.source.name,
            "test_images": test_images,
            "epochs_done": result.epoch,
            **{name: round(share, 4) for name, share in shares.items()},
            **({} if result.quantized_top1 is None else {"simulated_integers_top1": round(result.quantized_top1, 4)}),
        }
        spec = msgspec.structs.replace(self.spec, provenance=provenance)
        self.save(self.average.model, spec, self.out / "model.safetensors")
        if best_epoch(self.results) == result:
            self.save(self.average.model, spec, self.out / "best.safetensors")
        self._save_state()

    def _attention_distance(self) -> tuple[float, ...] | None:
        """Of each block, on some of the test images, where the recipe asks for it."""
        if not self.recipe.attention_distance:
            return None
        shown, preprocessing = self.test.sample(ATTENTION_IMAGES), self.spec.preprocessing
        images = np.stack([crop_image(shown.image(row), preprocessing) for row in range(len(shown))])
        stride = model_config(self.spec).stride
        return tuple(attention_distances(self.average.model, self._model_input(images), stride))

    def _evaluate(self, what: str, network: Callable[[Tensor], Tensor | tuple[Tensor, ...]]) -> Quality:
        @torch.no_grad()
        def predict(images: Images) -> np.ndarray:
            return as_rows(network(self._model_input(np.asarray(images)))).cpu().numpy()

        def progress(step: Step) -> None:
            self.progress(replace(step, stage=what))

        return self.task.measure(predict, self.test, progress=progress, together=self.world)

    def _model_input(self, images: np.ndarray) -> Tensor:
        """RGB uint8 [B, 3, H, W] -> what the network takes."""
        x = to_model_input(torch.from_numpy(images).to(self.device), self.spec.preprocessing)
        return x.contiguous(memory_format=torch.channels_last)

    def _save_state(self) -> None:
        if not self.world.is_first:
            return
        state = {
            **self.identity.encode(),
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": [self.epoch, self.next_step, self.steps_done],
            "losses": self.losses,
            "precision": msgspec.to_builtins(self.precision),
            **({"quantization": self.fake.state_dict()} if self.fake else {}),
            **({"hidden": self.hidden.state_dict()} if self.hidden else {}),
        }
        save_state(self.out / "state.pt", state)

    def _resume(self) -> bool:
        """Resume from the state in `out`; False where there is none."""
        path = self.out / "state.pt"
        content, foreign = self.world.from_first(
            lambda: (path.read_bytes() if path.exists() else None, (self.out / "model.safetensors").exists())
        )
        if content is None:
            if foreign:
                raise RequestError(f"{self.out} holds a checkpoint that is not this training's; give another `out`")
            return False
        state, differing = read_state(path, content, self.identity, self.device)
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
            if self.hidden is not None:
                self.hidden.load_state_dict(state["hidden"])
            self.epoch, self.next_step, self.steps_done = state["position"]
            self.losses = state["losses"]
            self.precision = msgspec.convert(state.get("precision", {"used": self.recipe.precision}), Precision)
        except Exception as error:
            raise unreadable(path, error) from error
        return True
