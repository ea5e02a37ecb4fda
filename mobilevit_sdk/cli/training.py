"""A training under the display, as `mobilevit train` and `mobilevit prune --finetune` run it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.text import Text

from mobilevit_sdk.cli.common import log
from mobilevit_sdk.cli.display import Display
from mobilevit_sdk.errors import RequestError

if TYPE_CHECKING:
    import torch

    from mobilevit_sdk.training import EpochResult, Trainer, TrainingProgress


def run_training(trainer: Trainer, display: Display, what: str) -> EpochResult:
    """Train to the end; `what` begins the line that says so. Raises KeyboardInterrupt where it was stopped before."""
    _print_start(trainer, what)
    with _stop_on_interrupt(trainer):
        result = trainer.run(
            lambda progress: _show(display, progress),
            lambda result: display.line(_epoch_line(result, trainer.recipe.epochs)),
        )
    if result is None:
        log.print(f"the state is saved in {trainer.out}: the same command goes on from it", markup=False)
        raise KeyboardInterrupt
    return result


def device_named(name: str) -> torch.device:
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, works in available.items() if works)
    if not available[name]:
        raise RequestError(f"torch {torch.__version__} finds no {name} device here; use --device auto or cpu")
    return torch.device(name)


@contextmanager
def _stop_on_interrupt(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C lets the step finish, so that the saved state is a whole one; a second Ctrl-C does not wait."""

    def stop(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        trainer.stop()

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _print_start(trainer: Trainer, what: str) -> None:
    spec, recipe = trainer.spec, trainer.recipe
    teacher, how = trainer.teacher, recipe.distillation
    purpose = f", {how.kind} labels of {teacher.spec.model}" if teacher and how else ""
    purpose += f", for {recipe.quantization_aware.precision}" if recipe.quantization_aware else ""
    log.print(
        f"{what} {spec.model}: {spec.num_classes} classes, {len(trainer.squares):,} images at {trainer.image_size} px, "
        f"{recipe.epochs} epochs, {trainer.device.type} {recipe.precision}{purpose}",
        markup=False,
    )
    if trainer.resumed and trainer.epoch == recipe.epochs:
        log.print(f"{trainer.out} holds this training, and it is complete", markup=False)
    elif trainer.resumed:
        log.print(f"resuming in epoch {trainer.epoch + 1}, after {trainer.next_step} of its steps", markup=False)


def _show(display: Display, progress: TrainingProgress) -> None:
    left = "" if progress.seconds_left == float("inf") else f"{timedelta(seconds=round(progress.seconds_left))} left · "
    display.update(
        f"epoch {progress.epoch}/{progress.epochs}",
        progress.images_done,
        progress.images_total,
        f"{progress.images_per_second:,.0f} images/s · {left}loss {progress.loss:.3f} · {progress.size} px",
    )


def _epoch_line(result: EpochResult, epochs: int) -> Text:
    integers = "" if result.quantized_top1 is None else f"   integers {result.quantized_top1:.2%}"
    return Text.assemble(
        (f"epoch {result.epoch:>{len(str(epochs))}}/{epochs}", "bold"),
        f"   loss {result.loss:.3f}   top-1 ",
        (f"{result.top1:7.2%}", "bold green"),
        f"   top-5 {result.top5:7.2%}{integers}   {result.images_per_second:,.0f} images/s   "
        f"lr {result.learning_rate:.1e}",
    )
