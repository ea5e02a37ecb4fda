"""Plots as inline SVG: geometry here, colors from the page's style sheet, so that they follow its color scheme."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup

from mobilevit_sdk.spec import Kind

MAX_POINTS = 1500  # of a scatter: about 15 kB
BINS = 41
_ONE = {"scores": "score (logit)", "features": "feature", "query-scores": "score (logit)", "boxes": "share"}
_DIFFERENCE = {
    **dict.fromkeys(("scores", "query-scores"), "artifact - PyTorch (logits)"),
    **dict.fromkeys(("features", "boxes"), "artifact - PyTorch"),
}
_WIDTH, _HEIGHT = 340, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 12, 24, 40  # the top holds what a plot says in words, so that nothing crosses it


class Axes:
    """A frame with two linear axes; x and y map data to the picture."""

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], labels: tuple[str, str], width: int = _WIDTH
    ) -> None:
        self.width = width
        self.low, self.high = (x[0], y[0]), (x[1], y[1])
        self.labels = labels
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        share = (value - self.low[0]) / (self.high[0] - self.low[0])
        return round(_LEFT + share * (self.width - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.low[1]) / (self.high[1] - self.low[1])
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    def line(self, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
        """A line between two points of the data."""
        self.parts.append(
            f'<line class="{kind}" x1="{self.x(x1)}" y1="{self.y(y1)}" x2="{self.x(x2)}" y2="{self.y(y2)}"/>'
        )

    def dots(self, kind: str, points: Iterable[tuple[float, float]]) -> None:
        """Points as one path of strokes without length, which round caps make discs."""
        path = "".join(f"M{self.x(x):g} {self.y(y):g}h0" for x, y in points)
        if path:
            self.parts.append(f'<path class="dots {kind}" d="{path}"/>')

    def text(self, kind: str, x: float, y: float, content: str) -> None:
        """Text at a point of the picture."""
        self.parts.append(Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, x, y, content))

    def svg(self, title: str, *, x_ticks: Sequence[float] = (), y_ticks: Sequence[float] = ()) -> Markup:
        grid = [f'<path class="grid" d="M{_LEFT} {self.y(tick)}H{self.width - _RIGHT}"/>' for tick in y_ticks]
        names = _tick_labels(x_ticks), _tick_labels(y_ticks)
        for tick, name in zip(x_ticks, names[0], strict=True):
            self.text("tick middle", self.x(tick), _HEIGHT - _BOTTOM + 15, name)
        for tick, name in zip(y_ticks, names[1], strict=True):
            self.text("tick end", _LEFT - 6, self.y(tick) + 4, name)
        self.text("label middle", (_LEFT + self.width - _RIGHT) / 2, _HEIGHT - 6, self.labels[0])
        middle = (_TOP + _HEIGHT - _BOTTOM) / 2
        turned = '<text class="label middle" transform="translate(11 {}) rotate(-90)">{}</text>'
        self.parts.append(Markup(turned).format(middle, self.labels[1]))
        frame = f'<path class="axis" d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{self.width - _RIGHT}"/>'
        head = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            self.width, _HEIGHT, title
        )
        return head + Markup("".join([*grid, *self.parts, frame])) + Markup("</svg>")


def scatter(reference: np.ndarray, outputs: np.ndarray, kind: Kind = "scores") -> Markup:
    """Scores of the artifact over those of PyTorch; at most MAX_POINTS, the farthest apart among them."""
    expected, actual = reference.ravel().astype(float), outputs.ravel().astype(float)
    finite = np.isfinite(actual)
    expected, actual = expected[finite], actual[finite]
    if not expected.size:
        return Markup("")
    rows = np.arange(expected.size)
    if expected.size > MAX_POINTS:
        worst = np.argsort(-np.abs(actual - expected))[: MAX_POINTS // 5]
        spread = np.linspace(0, expected.size - 1, MAX_POINTS - len(worst)).astype(int)
        rows = np.unique(np.concatenate([worst, spread]))
    low, high = padded(min(expected.min(), actual.min()), max(expected.max(), actual.max()))
    axes = Axes((low, high), (low, high), (f"PyTorch's {_ONE[kind]}", f"artifact's {_ONE[kind]}"))
    axes.line("diagonal", low, low, high, high)
    axes.dots("points", zip(expected[rows].tolist(), actual[rows].tolist(), strict=True))
    ticks = round_ticks(low, high)
    return axes.svg("scores of the artifact over those of PyTorch", x_ticks=ticks, y_ticks=ticks)


def histogram(errors: np.ndarray, kind: Kind = "scores") -> Markup:
    """How often which difference, artifact minus PyTorch, over all cases and classes."""
    values = errors[np.isfinite(errors)].astype(float)
    if not values.size:
        return Markup("")
    reach = float(np.abs(values).max()) or 1e-9
    counts, edges = np.histogram(values, bins=BINS, range=(-reach, reach))
    axes = Axes((-reach, reach), (0, float(counts.max()) * 1.05), (_DIFFERENCE[kind], f"number of {kind}"))
    base = axes.y(0)
    bars = "".join(
        f"M{axes.x(left):g} {base:g}V{axes.y(count):g}H{axes.x(right):g}V{base:g}"
        for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        if count
    )
    axes.parts.append(f'<path class="bars" d="{bars}"/>')
    return axes.svg(
        "histogram of the differences",
        x_ticks=round_ticks(-reach, reach, 3),
        y_ticks=round_ticks(0, float(counts.max()), 3),
    )


def ranked(sqnr_db: Sequence[float], threshold: float) -> Markup:
    """The SQNR of every case, worst first, with the threshold."""
    values = sorted(sqnr_db)
    low, high = padded(min(*values, threshold), max(*values, threshold))
    axes = Axes((0, len(values) + 1), (low, high), ("cases, worst first", "SQNR in dB"))
    axes.line("threshold", 0, threshold, len(values) + 1, threshold)
    for kind, below in (("points", False), ("missed", True)):
        axes.dots(kind, ((i, value) for i, value in enumerate(values, 1) if (value < threshold) is below))
    axes.text("note end", _WIDTH - _RIGHT, _TOP - 9, f"dashed: at least {threshold:g} dB")
    return axes.svg(
        "SQNR of every case", x_ticks=round_ticks(1, len(values), 4, whole=True), y_ticks=round_ticks(low, high)
    )


def depth(modules: Sequence[tuple[str, float]], culprit: int | None) -> Markup:
    """SQNR after each module, in the order of computation; the module at the position `culprit` is named."""
    values = [sqnr for _, sqnr in modules]
    low, high = padded(min(values), max(values))
    labels = ("operators, first to last", "SQNR in dB")
    axes = Axes((0, len(values) + 1), (low, high), labels, 2 * _WIDTH)
    path = "L".join(f"{axes.x(i):g} {axes.y(value):g}" for i, value in enumerate(values, 1))
    axes.parts.append(f'<path class="curve" d="M{path}"/>')
    for i, (module, sqnr) in enumerate(modules):
        kind = "missed" if i == culprit else "points"
        disc = '<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}: {:.1f} dB</title></circle>'
        radius = 4 if i == culprit else 2
        axes.parts.append(Markup(disc).format(kind, axes.x(i + 1), axes.y(sqnr), radius, module, sqnr))
    if culprit is not None:
        axes.line("threshold", culprit + 1, low, culprit + 1, axes.high[1])
        right = culprit + 1 > len(values) / 2
        axes.text("note end" if right else "note", axes.x(culprit + 1), _TOP - 9, modules[culprit][0])
    return axes.svg(
        "SQNR along the depth", x_ticks=round_ticks(1, len(values), 4, whole=True), y_ticks=round_ticks(low, high)
    )


def padded(low: float, high: float) -> tuple[float, float]:
    margin = (high - low or abs(high) or 1.0) * 0.08
    return low - margin, high + margin


def round_ticks(low: float, high: float, count: int = 4, *, whole: bool = False) -> list[float]:
    """Round numbers from low to high, about `count` of them."""
    rough = (high - low) / count or 1.0
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (5, 2, 1) if unit * factor <= rough * 1.001)
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _tick_labels(ticks: Sequence[float]) -> list[str]:
    largest = max((abs(tick) for tick in ticks), default=0)
    if largest and not 0.01 <= largest < 1e5:
        power = math.floor(math.log10(largest))
        return ["0" if tick == 0 else f"{tick / 10.0**power:.3g}e{power}" for tick in ticks]
    return [f"{tick:.3g}" if largest < 1000 else f"{tick:,.0f}" for tick in ticks]
