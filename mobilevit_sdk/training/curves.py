"""The curves of a training: loss and quality over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobilevit_sdk.charts import BLUE, GREEN, ORANGE, PURPLE, SKY, chart
from mobilevit_sdk.training.metrics import HEADS, QUALITIES, EpochResult


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
            if name != names[0] and all(row.shares[name] == 1 for row in history):
                continue  # top-5 of at most five classes, whose line would take half of the axis
            quality.plot(epochs, [row.shares[name] for row in history], color=color, label=QUALITIES[name], **dots)
        for (name, label), color in zip(HEADS.items(), (ORANGE, PURPLE), strict=True):
            if name in last.heads:
                own = [row.heads[name] for row in history]
                quality.plot(epochs, own, color=color, ls="--", label=f"top-1, {label}", **dots)
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


def plot_attention_distances(history: Sequence[EpochResult], path: Path, *, title: str) -> None:
    """Write a PNG with the mean attention distance of every block over the epochs: figure 4 of arXiv 2204.12997.

    `history` has at least one epoch that was measured.
    """
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    measured = [row for row in history if row.attention_distance]
    blocks = [list(each) for each in zip(*(row.attention_distance or () for row in measured), strict=True)]
    colors = matplotlib.colormaps["viridis"].resampled(len(blocks) + 1)  # its last, a pale yellow, is left out
    dots: dict[str, Any] = {"marker": "o", "markersize": 3} if len(measured) <= 40 else {}
    with chart(path, 6, 3.6) as figure:
        axes = figure.subplots()
        for index, distances in enumerate(blocks):
            axes.plot([row.epoch for row in measured], distances, color=colors(index), label=str(index + 1), **dots)
        axes.set(xlabel="epoch", ylabel="mean attention distance, pixels")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_ylim(bottom=0)
        axes.legend(title="block", loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.suptitle(title)
