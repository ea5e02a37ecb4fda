"""How quality goes with each value of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilevit_sdk.charts import BLUE, GREEN, SKY, chart
from mobilevit_sdk.training.metrics import QUALITIES
from mobilevit_sdk.training.search_space import Trial, Values

COLUMNS = 3


def plot_sweep(trials: Sequence[Trial], space: Mapping[str, Values], path: Path, epochs: int) -> None:
    """Write a PNG with a plot for each parameter in `space`; `trials`, the best one first, are dots in all of them.

    Those that were stopped before the last of `epochs` are pale.
    """
    from matplotlib.ticker import PercentFormatter

    measured = [trial for trial in trials if trial.quality]
    name = QUALITIES[next(iter(measured[0].quality))]
    columns = min(COLUMNS, len(space))
    rows = -(-len(space) // columns)
    with chart(path, 3.2 * columns + 0.4, 2.8 * rows + 0.4) as figure:
        plots = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes, (parameter, values) in zip(plots, space.items(), strict=False):
            at, ticks = _positions([trial.values[parameter] for trial in measured], values)
            colors = [BLUE if trial.epochs >= epochs else SKY for trial in measured]
            axes.scatter(at, [trial.deciding for trial in measured], c=colors, s=22, zorder=2)
            axes.scatter(at[:1], [measured[0].deciding], color=GREEN, s=46, zorder=3)
            axes.annotate(
                f"{measured[0].deciding:.2%}",
                (at[0], measured[0].deciding),
                (0, 7),
                textcoords="offset points",
                ha="center",
                weight="bold",
            )
            if ticks:
                axes.set_xticks(range(len(ticks)), ticks)
            elif values.kind == "log":
                axes.set_xscale("log")
            axes.set(xlabel=parameter)
            axes.margins(0.12, 0.18)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        for axes in plots[len(space) :]:
            axes.set_axis_off()
        for axes in plots[: len(space) : columns]:
            axes.set_ylabel(f"{name} after the last epoch")
        early = sum(trial.epochs < epochs for trial in measured)
        figure.suptitle(f"{len(measured)} trials" + (f", {early} of them stopped early (pale)" if early else ""))


def _positions(chosen: Sequence[Any], values: Values) -> tuple[list[Any], list[str]]:
    """Where values stand on the axis, and what is written there; without words for numbers of a range."""
    if values.drawn:
        return list(chosen), []
    words = [str(value) for value in values.values]
    return [words.index(str(value)) for value in chosen], words
