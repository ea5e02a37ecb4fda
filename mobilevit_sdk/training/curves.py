"""The curves of a training: loss and accuracy over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobilevit_sdk.charts import BLUE, GREEN, SKY, chart
from mobilevit_sdk.training.metrics import EpochResult


def plot_curves(history: Sequence[EpochResult], path: Path, *, title: str) -> None:
    """Write a PNG with the training loss and the test accuracy of every epoch in `history`, which is not empty."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs, last = [row.epoch for row in history], history[-1]
    dots = {"marker": "o", "markersize": 3} if len(history) <= 40 else {}
    with chart(path, 9, 3.6) as figure:
        loss, accuracy = figure.subplots(1, 2)
        loss.plot(epochs, [row.loss for row in history], color=BLUE, **dots)
        loss.set(title="training loss", xlabel="epoch", ylabel="mean loss of an image, nats")
        for key, color in (("top5", SKY), ("top1", GREEN)):
            shares = [getattr(row, key) for row in history]
            accuracy.plot(epochs, shares, color=color, label=key.replace("top", "top-"), **dots)
        if last.quantized_top1 is not None:
            shares = [row.quantized_top1 for row in history]
            accuracy.plot(epochs, shares, color=BLUE, ls="--", label="top-1 in simulated integers", **dots)
        accuracy.annotate(
            f"{last.top1:.2%}",
            (last.epoch, last.top1),
            (7, 0),  # beyond the last epoch, where no curve passes
            textcoords="offset points",
            va="center",
            weight="bold",
            annotation_clip=False,
        )
        accuracy.set(title="test accuracy of the averaged weights", xlabel="epoch", ylabel="images classified right")
        accuracy.margins(y=0.12)
        accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
        accuracy.legend(loc="best")
        for axes in (loss, accuracy):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.suptitle(title)
