"""The picture of a training: loss and accuracy over the epochs."""

from __future__ import annotations

from pathlib import Path

from mobilevit_sdk.files import replacing
from mobilevit_sdk.training.progress import EpochResult


def plot_curves(history: list[EpochResult], path: Path, *, title: str) -> None:
    """Write a PNG with the training loss and the test accuracy of every epoch in `history`."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs = [row.epoch for row in history]
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [row.loss for row in history], color="#4263eb", marker=".")
    loss.set(title="training loss", xlabel="epoch")
    for key, color in (("top1", "#2b8a3e"), ("top5", "#adb5bd")):
        accuracy.plot(
            epochs, [getattr(row, key) for row in history], color=color, marker=".", label=key.replace("top", "top-")
        )
    last = history[-1]
    accuracy.annotate(f"{last.top1:.2%}", (last.epoch, last.top1), (0, -14), textcoords="offset points", ha="right")
    accuracy.set(title="test accuracy (averaged weights)", xlabel="epoch")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    accuracy.legend(frameon=False, loc="best")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title, fontsize=11)
    with replacing(path) as fresh:
        figure.savefig(fresh, format="png")
