"""The curves of a training: loss and quality over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobilevit_sdk.charts import BLUE, GREEN, SKY, chart
from mobilevit_sdk.training.metrics import QUALITIES, EpochResult


def plot_curves(history: Sequence[EpochResult], path: Path, *, title: str) -> None:
    """Write a PNG with the training loss and the quality on test images of every epoch in `history`, not empty."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs, last = [row.epoch for row in history], history[-1]
    dots = {"marker": "o", "markersize": 3} if len(history) <= 40 else {}
    with chart(path, 9, 3.6) as figure:
        loss, quality = figure.subplots(1, 2)
        loss.plot(epochs, [row.loss for row in history], color=BLUE, **dots)
        loss.set(title="training loss", xlabel="epoch", ylabel="mean loss of an image, nats")
        names = list(last.shares)
        for name, color in zip(reversed(names), (SKY, GREEN), strict=True):
            quality.plot(epochs, [row.shares[name] for row in history], color=color, label=QUALITIES[name], **dots)
        if last.quantized_top1 is not None:
            shares = [row.quantized_top1 for row in history]
            quality.plot(epochs, shares, color=BLUE, ls="--", label="top-1 in simulated integers", **dots)
        quality.annotate(
            f"{last.shares[names[0]]:.2%}",
            (last.epoch, last.shares[names[0]]),
            (7, 0),  # beyond the last epoch, where no curve passes
            textcoords="offset points",
            va="center",
            weight="bold",
            annotation_clip=False,
        )
        is_accuracy = "top1" in names
        quality.set(
            title=f"test {'accuracy' if is_accuracy else 'precision'} of the averaged weights",
            xlabel="epoch",
            ylabel="images classified right" if is_accuracy else "average precision",
        )
        quality.margins(y=0.12)
        quality.yaxis.set_major_formatter(PercentFormatter(1.0))
        quality.legend(loc="best")
        for axes in (loss, quality):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.suptitle(title)
