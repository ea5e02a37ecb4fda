"""The search as a picture: what each block loses by itself, and the trades of size for accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobilevit_sdk.files import replacing
from mobilevit_sdk.quantization.search import Goal, SearchResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_QUANTIZED, _FLOAT, _GOAL = "#4263eb", "#f08c00", "#2b8a3e"


def write_chart(result: SearchResult, goal: Goal, path: Path, *, title: str) -> None:
    """Write a PNG. Raises RequestError where that cannot be written."""
    from matplotlib.figure import Figure

    panels = 2 if result.points else 1
    figure = Figure(figsize=(6.5 * panels, max(3.6, 0.2 * len(result.losses) + 1.2)), dpi=130, layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _draw_losses(axes[0], result)
    if result.points:
        _draw_frontier(axes[1], result, goal)
    for each in axes:
        each.grid(alpha=0.25)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    with replacing(path) as fresh:
        figure.savefig(fresh, format="png")


def _draw_losses(axes: Axes, result: SearchResult) -> None:
    places = range(len(result.losses))
    kept = set(result.recipe.float_modules)
    colors = [_FLOAT if loss.block in kept else _QUANTIZED for loss in result.losses]
    axes.barh(places, [loss.sqnr_db for loss in result.losses], color=colors)
    axes.set_yticks(places, [loss.block for loss in result.losses], size=7)
    axes.invert_yaxis()
    axes.set_xlabel("SQNR of the scores with this block alone quantized, dB")
    axes.set_title("what each block loses" + (" (orange: kept in floating point)" if kept else ""), size=9, loc="left")


def _draw_frontier(axes: Axes, result: SearchResult, goal: Goal) -> None:
    by_task = result.points[0].top1_drop is not None
    losses = [(p.top1_drop or 0.0) if by_task else 100 * (1 - p.agreement) for p in result.points]
    sizes = [100 * point.size for point in result.points]
    axes.plot(sizes, losses, color=_QUANTIZED, marker=".")
    axes.axhline(goal.top1_drop if by_task else 100 * (1 - goal.agreement), color=_GOAL, linestyle="--", label="goal")
    if result.chosen:
        at = result.points.index(result.chosen)
        axes.plot(sizes[at], losses[at], "o", color=_GOAL, markersize=9, label="chosen")
    for point, x, y in zip(result.points, sizes, losses, strict=True):
        axes.annotate(str(len(point.float_modules)), (x, y), (4, 4), textcoords="offset points", size=7)
    axes.set_xlabel("size, percent of float32 (number: blocks kept in floating point)")
    axes.set_ylabel("top-1 lost, points" if by_task else "images that change their class, percent")
    axes.set_title("trades of size for accuracy", size=9, loc="left")
    axes.legend(frameon=False)
