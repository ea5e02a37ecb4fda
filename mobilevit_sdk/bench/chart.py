"""A chart of latencies: a bar to the median of each candidate, a whisker to its 90th percentile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevit_sdk.bench.baselines import BASELINES
from mobilevit_sdk.bench.rounds import Row
from mobilevit_sdk.charts import BLUE, DIM, GRAY, ORANGE, chart
from mobilevit_sdk.parity.device import PhoneRow
from mobilevit_sdk.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def label(row: Row | PhoneRow) -> str:
    """The name of a row in tables and charts: that of a baseline, or the artifact, the runtime and the phone."""
    if isinstance(row, PhoneRow):
        return one_line(f"{row.artifact} · {row.runtime} · {row.device}", 90)
    return row.runtime if row.runtime in BASELINES else f"{Path(row.artifact).parent.name} · {row.runtime}"


def write_chart(panels: Mapping[str, Sequence[Row | PhoneRow]], path: Path) -> None:
    """Write a PNG with a panel for each title and its rows, one below the other. Raises RequestError."""
    measured = {title: [row for row in rows if row.p90_ms is not None] for title, rows in panels.items()}
    heights = [len(rows) + 2 for rows in measured.values()]
    with chart(path, 9, 0.28 * sum(heights)) as figure:
        axes = figure.subplots(len(measured), 1, squeeze=False, height_ratios=heights)[:, 0]
        for each, (title, rows) in zip(axes, measured.items(), strict=True):
            _draw(each, rows, title)
        axes[-1].set_xlabel("latency of one image, ms: median, whisker to the 90th percentile")


def _median(row: Row | PhoneRow) -> float:
    return (row.p50_ms if isinstance(row, PhoneRow) else row.median_ms) or 0.0


def _color(row: Row | PhoneRow) -> str:
    if row.status == "throttled":
        return ORANGE
    return GRAY if row.runtime in BASELINES else BLUE


def _draw(axes: Axes, rows: Sequence[Row | PhoneRow], title: str) -> None:
    medians = [_median(row) for row in rows]
    beyond = [(row.p90_ms or 0.0) - median for row, median in zip(rows, medians, strict=True)]
    colors = [_color(row) for row in rows]
    places = range(len(rows))
    axes.barh(places, medians, color=colors, xerr=[[0.0] * len(rows), beyond], ecolor=DIM, capsize=2)
    for place, median, more in zip(places, medians, beyond, strict=True):
        axes.annotate(f"{median:.1f}", (median + more, place), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, [label(row) for row in rows], parse_math=False)  # names may hold dollar signs
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_title(title)
    axes.grid(axis="y", visible=False)
