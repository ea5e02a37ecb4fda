"""What was kept, by stage and by kind, and accuracy over cost: as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mobilevit_sdk.files import replacing
from mobilevit_sdk.pruning.pruner import Kept

_COLORS = {
    "stream": "#495057",
    "fusion": "#868e96",
    "expansion": "#4263eb",
    "FFN": "#ae3ec9",
    "heads": "#f08c00",
    "q/k": "#e03131",
    "v": "#2f9e44",
    "squeeze": "#1098ad",
}


def plot_kept(kept: Sequence[Kept], path: Path, title: str) -> None:
    """Write a PNG with a bar for every kind of width in every stage: the share that is left, with the numbers.

    As figure 4 of EfficientViT (arXiv 2305.07027) shows Q, K, V and FFN. Raises RequestError where it cannot.
    """
    from matplotlib.figure import Figure

    stages = list(dict.fromkeys(row.stage for row in sorted(kept, key=lambda row: _rank(row.stage))))
    kinds = [kind for kind in _COLORS if any(row.kind == kind for row in kept)]
    figure = Figure(figsize=(1.5 + 0.36 * (len(kept) + len(stages)), 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    ticks, place = [], 0.0
    for stage in stages:
        rows = sorted((row for row in kept if row.stage == stage), key=lambda row: kinds.index(row.kind))
        for offset, row in enumerate(rows):
            share = row.after / row.before
            axes.bar(place + offset, share, width=0.85, color=_COLORS[row.kind])
            axes.annotate(
                f"{row.after} of {row.before}",
                (place + offset, share),
                (0, 3),
                textcoords="offset points",
                size=6,
                rotation=90,
                ha="center",
                va="bottom",
            )
        ticks.append((place + (len(rows) - 1) / 2, stage))
        place += len(rows) + 0.8
    axes.set_xticks([x for x, _ in ticks], [stage for _, stage in ticks], size=8)
    axes.set_ylim(0, 1.4)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"], size=8)
    axes.set_ylabel("kept", size=8)
    axes.set_title(title, size=9, loc="left")
    handles = [axes.bar(0, 0, color=_COLORS[kind], label=kind) for kind in kinds]
    axes.legend(handles=handles, ncols=len(kinds), frameon=False, fontsize=7, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as fresh:
        figure.savefig(fresh, format="png")


def plot_frontier(lines: Mapping[str, Sequence[tuple[float, float]]], path: Path, title: str) -> None:
    """Write a PNG with a line for each name through points (share of the MACs, top-1 from 0 to 1)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, points in lines.items():
        shares, accuracies = zip(*sorted(points), strict=True)
        axes.plot([100 * share for share in shares], [100 * top1 for top1 in accuracies], marker="o", ms=3, label=name)
    axes.set_xlabel("multiply-accumulates, percent of the unpruned network's", size=8)
    axes.set_ylabel("top-1, percent", size=8)
    axes.tick_params(labelsize=8)
    axes.invert_xaxis()
    axes.grid(alpha=0.25)
    axes.set_title(title, size=9, loc="left")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as fresh:
        figure.savefig(fresh, format="png")


def _rank(stage: str) -> tuple[int, str]:
    return ({"stem": 0, "head": 2}.get(stage, 1), stage)
