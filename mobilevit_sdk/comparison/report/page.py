"""The comparison as one HTML page, without scripts, links or anything that a browser would fetch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from markupsafe import Markup

from mobilevit_sdk.comparison.record import Comparison, FileRow, cells, drop_in_points
from mobilevit_sdk.parity import report as parity_report
from mobilevit_sdk.parity.report.plots import Axes, padded, round_ticks
from mobilevit_sdk.text import count

COLORS = 6  # of formats, in the style sheet; further ones begin again


def page(comparison: Comparison) -> str:
    """The report of a comparison."""
    import jinja2

    folders = [Path(__file__).parent, Path(parity_report.__file__).parent]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    names = list(dict.fromkeys(row.name for row in comparison.rows))
    color_of = {name: f"f{place % COLORS}" for place, name in enumerate(names)}
    measures: dict[str, tuple[str, Callable[[FileRow], float | None]]] = {
        "Accuracy over size": ("size, MB", lambda row: row.bytes / 1e6 if row.bytes is not None else None),
        "Accuracy over latency": ("median, ms", lambda row: row.median_ms),
    }
    plots = [
        (title, drawn)
        for title, (unit, measure) in measures.items()
        if (drawn := _plot(comparison, title, unit, measure, color_of))
    ]
    return environment.get_template("comparison.html.j2").render(
        comparison=comparison,
        groups=[(name, [row for row in comparison.rows if row.name == name]) for name in names],
        color_of=color_of,
        cells=cells,
        drop=lambda row: drop_in_points(row, comparison),
        plots=plots,
        facts=_facts(comparison),
        largest=max((row.bytes or 0 for row in comparison.rows), default=0) or 1,
        slowest=max((row.median_ms or 0.0 for row in comparison.rows), default=0.0) or 1.0,
    )


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    floors = comparison.floors
    bars = [f"at most {floors.max_drop:g} points below PyTorch"] if floors.max_drop is not None else []
    bars += [f"at least {floors.min_top1:g}%"] if floors.min_top1 is not None else []
    weights = f" (SHA-256 {comparison.sha256[:12]})" if comparison.sha256 else ""
    facts = {
        "checkpoint": f"{comparison.checkpoint}{weights}",
        "images": f"{count(comparison.images, 'image')} of {comparison.data}",
        "top-1 of": comparison.asked or "",
        "PyTorch's top-1": f"{comparison.top1:.2%}",
        "floor of top-1": " and ".join(bars),
        "integers calibrated with": comparison.calibration or "",
        "made by": f"mobilevit-sdk {comparison.sdk}, {comparison.when}",
    }
    return [(name, value) for name, value in facts.items() if value]


def _plot(
    comparison: Comparison,
    title: str,
    unit: str,
    measure: Callable[[FileRow], float | None],
    color_of: dict[str, str],
) -> Markup:
    """Top-1 over a measure: a disc for each file, hollow where it did not pass; dashed: PyTorch's top-1."""
    points = [
        (x, 100 * row.top1, row) for row in comparison.rows if row.top1 is not None and (x := measure(row)) is not None
    ]
    if not points:
        return Markup("")
    reference = 100 * comparison.top1
    tops = [reference, *(y for _, y, _ in points)]
    low, high = padded(min(*tops, reference - 1), max(*tops, reference + 1))
    right = 1.06 * max(x for x, _, _ in points)
    axes = Axes((0.0, right), (low, high), (unit, "top-1, percent"), 460)
    axes.line("threshold", 0, reference, right, reference)
    disc = '<circle class="{} {}" cx="{}" cy="{}" r="4.5"><title>{} {}: {:.2f} {}, top-1 {:.2f}%</title></circle>'
    for x, y, row in points:
        filled = "disc" if row.status == "passed" else "ring"
        axes.parts.append(
            Markup(disc).format(
                color_of[row.name], filled, axes.x(x), axes.y(y), row.name, row.precision, x, unit.split()[-1], y
            )
        )
    axes.text("note end", axes.width - 12, 15, f"dashed: PyTorch, {reference:.2f}%")
    return axes.svg(title, x_ticks=round_ticks(0, right), y_ticks=round_ticks(low, high))
