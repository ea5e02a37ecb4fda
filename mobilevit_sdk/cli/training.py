"""The display of a training, for `mobilevit train` and `mobilevit prune --finetune`."""

from __future__ import annotations

from rich.text import Text

from mobilevit_sdk.cli.display import Display
from mobilevit_sdk.progress import Step
from mobilevit_sdk.training import EpochDone, EpochResult, TrainingStarted, TrainingStopped


class TrainingDisplay(Display):
    """A Display that also writes lines that stay: of the start, of every epoch, and of a stop."""

    def __call__(self, step: Step, /) -> None:
        """Show a step."""
        super().__call__(step)
        if isinstance(step, TrainingStarted):
            self.line(Text.assemble((step.stage, "bold"), f": {step.detail}"))
            if step.resumed:
                self.line(step.resumed)
        elif isinstance(step, EpochDone):
            self.line(_epoch_line(step.stage, step.result))
        elif isinstance(step, TrainingStopped):
            self.line(step.detail)


def _epoch_line(stage: str, result: EpochResult) -> Text:
    integers = "" if result.quantized_top1 is None else f"   integers {result.quantized_top1:.2%}"
    return Text.assemble(
        (stage, "bold"),
        f"   loss {result.loss:.3f}   top-1 ",
        (f"{result.top1:7.2%}", "bold green"),
        f"   top-5 {result.top5:7.2%}{integers}   {result.images_per_second:,.0f} images/s   "
        f"lr {result.learning_rate:.1e}",
    )
