"""The display of a training, for `mobilevit train` and `mobilevit prune --finetune`."""

from __future__ import annotations

from rich.text import Text

from mobilevit_sdk.cli.display import Display
from mobilevit_sdk.progress import Step
from mobilevit_sdk.training import EpochDone, EpochResult, TrainingStarted, TrainingStopped
from mobilevit_sdk.training.metrics import QUALITIES


class TrainingDisplay(Display):
    """A Display that also writes lines that stay: of the start, of every epoch, and of a stop."""

    def __call__(self, step: Step, /) -> None:
        """Show a step."""
        if isinstance(step, TrainingStarted):
            self.line(Text.assemble((step.stage, "bold"), f": {step.detail}"))
            for line in filter(None, (step.note, step.resumed)):
                self.line(line)
        elif isinstance(step, EpochDone):
            self.line(_epoch_line(step.stage, step.result))
        elif isinstance(step, TrainingStopped):
            self.line(step.detail)
        else:
            super().__call__(step)


def _epoch_line(stage: str, result: EpochResult) -> Text:
    """Fits 80 columns, but for long trainings for integers. Of two heads it has theirs, and less of the rest."""
    (decides, share), *others = [(QUALITIES[name], f"{share:.2%}") for name, share in result.shares.items()]
    integers = "" if result.quantized_top1 is None else f"  integers {result.quantized_top1:.2%}"
    rest = "".join(f"  {name} {share}" for name, share in others) + f"  {result.images_per_second:,.0f} images/s"
    if result.heads:
        rest = "".join(
            f"  {name} {own:.2%}" for name, own in zip(("class", "dist"), result.heads.values(), strict=True)
        )
    return Text.assemble(
        (stage, "bold"),
        f"  loss {result.loss:.3f}  {decides} ",
        (share, "bold green"),
        f"{integers}{rest}  lr {result.learning_rate:.1e}",
    )
