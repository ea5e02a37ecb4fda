"""The search as a picture: what each block loses alone, and the trades of size for accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobilevit_sdk.charts import BLUE, GREEN, ORANGE, chart
from mobilevit_sdk.quantization.search import Goal, SearchResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_chart(result: SearchResult, goal: Goal, path: Path, *, title: str) -> None:
    """Write a PNG. Raises RequestError when it cannot be written."""
    panels = 2 if result.points else 1
    with chart(path, 6.5 * panels, max(3.6, 0.19 * len(result.losses) + 1.2)) as figure:
        axes = figure.subplots(1, panels, squeeze=False)[0]
        _draw_losses(axes[0], result)
        if result.points:
            _draw_frontier(axes[1], result, goal)
        figure.suptitle(title)


def _draw_losses(axes: Axes, result: SearchResult) -> None:
    places = range(len(result.losses))
    kept = set(result.recipe.float_modules)
    for name, color, hatch in (("quantized", BLUE, ""), ("kept in floating point", ORANGE, "///")):
        rows = [place for place in places if (result.losses[place].block in kept) == (color == ORANGE)]
        lengths = [100 * 10 ** (-result.losses[row].sqnr_db / 20) for row in rows]
        axes.barh(rows, lengths, color=color, hatch=hatch, edgecolor="white", linewidth=0, label=name)
    axes.set_yticks(places, [loss.block for loss in result.losses], size=7)
    axes.set_ylim(len(result.losses) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("error of the scores with this block alone quantized, percent of their RMS")
    axes.set_title("what each block loses, worst first")
    axes.set_ylabel("block")
    if kept:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0)


def _draw_frontier(axes: Axes, result: SearchResult, goal: Goal) -> None:
    by_task = result.points[0].top1_drop is not None and goal.resolves_top1(result.images)
    losses = [(p.top1_drop or 0.0) if by_task else 100 * (1 - (p.agreement or 0.0)) for p in result.points]
    sizes = [100 * point.size for point in result.points]
    axes.plot(sizes, losses, color=BLUE, marker="o", markersize=11)
    axes.axhline(goal.top1_drop if by_task else 100 * (1 - goal.agreement), color=GREEN, ls="--", label="goal")
    if result.chosen:
        at = result.points.index(result.chosen)
        axes.plot(sizes[at], losses[at], "o", color=GREEN, markersize=14, label="chosen")
    for point, x, y in zip(result.points, sizes, losses, strict=True):  # in the markers, so that no line crosses them
        text = str(len(point.float_modules))
        axes.annotate(text, (x, y), size=6.5, ha="center", va="center", color="white", weight="bold")
    axes.margins(0.08)
    axes.set_xlabel("size, percent of float32 (numbers: blocks kept in floating point)")
    axes.set_ylabel("top-1 lost, points" if by_task else "images that change their class, percent")
    axes.set_title("trades of size for accuracy")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0, markerscale=0.6)
