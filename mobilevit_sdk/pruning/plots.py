"""Pictures of a pruning: what was kept, by stage and by kind, and accuracy over cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mobilevit_sdk.charts import BLUE, DIM, GRAY, GREEN, INK, ORANGE, PURPLE, RED, SKY, chart
from mobilevit_sdk.pruning.pruner import Kept

_COLORS = {
    "stream": INK,
    "fusion": GRAY,
    "expansion": BLUE,
    "bottleneck": BLUE,
    "FFN": ORANGE,
    "heads": PURPLE,
    "q/k": RED,
    "v": GREEN,
    "squeeze": SKY,
    "pre-logits": DIM,
}


def plot_kept(kept: Sequence[Kept], path: Path, title: str) -> None:
    """Write a PNG with a bar for every kind of width in every stage: the share that is left, with the numbers.

    As figure 4 of EfficientViT (arXiv 2305.07027) shows Q, K, V and FFN. Raises RequestError when it cannot be written.
    """
    stages = sorted(dict.fromkeys(row.stage for row in kept), key=_rank)
    kinds = [kind for kind in _COLORS if any(row.kind == kind for row in kept)]
    with chart(path, max(7.0, 1.5 + 0.36 * (len(kept) + len(stages))), 3.6) as figure:
        axes = figure.subplots()
        middles, place = [], 0.0
        for stage in stages:
            rows = sorted((row for row in kept if row.stage == stage), key=lambda row: kinds.index(row.kind))
            for offset, row in enumerate(rows):
                at, share = place + offset, row.after / row.before
                axes.bar(at, 1, width=0.85, color="none", edgecolor="#ced4da", linewidth=0.7)
                axes.bar(at, share, width=0.85, color=_COLORS[row.kind])
                axes.annotate(
                    f"{row.after} of {row.before}",
                    (at, 1),
                    (0, 3),
                    textcoords="offset points",
                    size=6.5,
                    rotation=90,
                    ha="center",
                    va="bottom",
                    color=DIM if share == 1 else INK,
                )
            middles.append(place + (len(rows) - 1) / 2)
            place += len(rows) + 0.8
        axes.set_xticks(middles, stages)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.8, place - 1)
        axes.set_ylim(0, 1.32)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("stage")
        axes.set_ylabel("width kept, percent", y=0.5 / 1.32)
        handles = [axes.bar(0, 0, color=_COLORS[kind], label=kind) for kind in kinds]
        axes.legend(handles=handles, ncols=len(kinds), loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)
        figure.suptitle(title)


def plot_frontier(
    lines: Mapping[str, Sequence[tuple[float, float]]], path: Path, title: str, *, measured: str = "top-1"
) -> None:
    """Write a PNG with a line for each name through points (share of the MACs, what was `measured` from 0 to 1)."""
    with chart(path, 6.4, 4) as figure:
        axes = figure.subplots()
        for (name, points), marker in zip(lines.items(), "osD^vPX" * len(lines), strict=False):
            shares, accuracies = zip(*sorted(points), strict=True)
            percents = [100 * top1 for top1 in accuracies]
            axes.plot([100 * share for share in shares], percents, marker=marker, markersize=4, label=name)
        axes.set_xlabel("multiply-accumulates, percent of the unpruned network's")
        axes.set_ylabel(f"{measured}, percent")
        axes.invert_xaxis()
        axes.legend(loc="lower left")
        figure.suptitle(title)


def _rank(stage: str) -> int:
    """The stem first and the head last; others as they come in the network."""
    return {"stem": 0, "head": 2}.get(stage, 1)
