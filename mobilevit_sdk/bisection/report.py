"""A bisection as files: bisect.json, and bisect.png, a plot of SQNR along the depth."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mobilevit_sdk.bisection.verdict import Bisection, Operator
from mobilevit_sdk.charts import BAND, BLUE, DIM, GRAY, ORANGE, RED, chart
from mobilevit_sdk.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TOP_DB = 160.0  # above it, beyond what float32 resolves, values are copies


def write_bisection(bisection: Bisection, folder: Path) -> None:
    """Write bisect.json and bisect.png into `folder`. Raises RequestError when it cannot be written."""
    with replacing(folder / "bisect.json") as fresh:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(bisection), indent=2) + b"\n")
    _plot(bisection, folder / "bisect.png")


def headline(bisection: Bisection) -> str:
    """The verdict in a sentence."""
    culprit, scores = (
        bisection.culprit,
        f"{bisection.output or 'scores'} at {bisection.sqnr_db:.1f} dB, threshold {bisection.threshold_db:g} dB",
    )
    if culprit is None:
        weakest = bisection.weakest
        return f"agrees; {_place(weakest)} costs most, {weakest.cost_db:.1f} dB alone ({scores})"
    verb = "differs" if bisection.status == "differs" else "diverges"
    return f"{verb} at {_place(culprit)}: {culprit.before_db:.1f} to {culprit.sqnr_db:.1f} dB ({scores})"


def _place(operator: Operator) -> str:
    return f"{operator.operator} in {operator.place}"


def without_copies(operators: Sequence[Operator]) -> list[Operator]:
    """The operators that compute: one that only moves a value is left out, unless it moves it wrongly."""
    return [each for each in operators if each.created_db < _TOP_DB or each.fresh_created_db < _TOP_DB]


def _plot(bisection: Bisection, path: Path) -> None:
    operators = without_copies(bisection.operators)
    name = f"{Path(bisection.artifact).parent.name} on {bisection.runtime}"
    width = min(13.0, max(7.5, 0.09 * len(operators)))
    with chart(path, width, 5.6) as figure:
        _draw(figure.subplots(), operators, bisection)
        title = textwrap.fill(f"{name}: {headline(bisection)}", round(9 * width))  # so many characters fit
        figure.suptitle(title, x=0.01, ha="left")


def _draw(axes: Axes, operators: Sequence[Operator], bisection: Bisection) -> None:
    made_here = [min(each.created_db, _TOP_DB) for each in operators]
    shown = [*made_here, *(each.sqnr_db for each in operators), *(each.fresh_sqnr_db for each in operators), 0.0]
    axes.set_ylim(max(min(shown), -20.0) - 5, min(max(shown), _TOP_DB) + 28)  # room for the name of the culprit
    axes.set_xlim(-0.7, len(operators) - 0.3)
    _draw_blocks(axes, operators)
    depth = range(len(operators))
    axes.plot(depth, [each.fresh_sqnr_db for each in operators], color=GRAY, lw=4, label="a fresh conversion")
    axes.plot(depth, [each.sqnr_db for each in operators], color=BLUE, lw=1.5, label="this file")
    own = "created by each operator"
    axes.scatter(depth, made_here, s=11, color=BLUE, alpha=0.4, linewidths=0, label=own)
    axes.axhline(bisection.threshold_db, color=ORANGE, lw=1.1, ls=(0, (5, 3)), label="threshold of the scores")
    _mark(axes, operators, bisection)
    axes.set_xlabel("operators in the order of computation, by block")
    axes.set_ylabel("SQNR of the worst case, dB")
    axes.grid(axis="x", visible=False)
    axes.tick_params(length=0)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4, borderpad=0)


def _draw_blocks(axes: Axes, operators: Sequence[Operator]) -> None:
    """Draw a band for each block behind the lines, with its name below."""
    start, middles, names = 0, [], []
    for number, (name, run) in enumerate(groupby(operators, key=lambda each: each.block)):
        size = len(list(run))
        if number % 2:
            axes.axvspan(start - 0.5, start + size - 0.5, color=BAND, lw=0, zorder=0)
        if size >= 2 or number == 0:
            middles.append(start + (size - 1) / 2)
            names.append(name or "(model)")
        start += size
    axes.set_xticks(middles, names, rotation=90)


def _mark(axes: Axes, operators: Sequence[Operator], bisection: Bisection) -> None:
    """Point at the operator that the verdict names."""
    named = bisection.culprit or bisection.weakest
    if named not in operators:
        return
    at = operators.index(named)
    color = RED if bisection.status == "diverged" else ORANGE if bisection.culprit else DIM
    axes.axvline(at, color=color, lw=1.2, alpha=0.7, zorder=1)
    axes.scatter([at], [named.sqnr_db], s=46, color=color, zorder=5)
    left = at > len(operators) / 2
    top = axes.get_ylim()[1]
    axes.annotate(
        f"{named.place}\n{named.operator}: {named.before_db:.1f} dB before it, {named.sqnr_db:.1f} dB after it",
        (at, top),
        (-7 if left else 7, -4),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        size=9,
        color=color,
        weight="bold",
    )
