"""What all plots share: the style, colors that color-blind readers can tell apart, and how a PNG is written."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilevit_sdk.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008), without the yellow, which is too pale for lines on white.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE, GRAY = "#56b4e9", "#cc79a7", "#c0c5ca"  # the gray is lighter than theirs, which looks like the purple
INK, DIM, BAND = "#1c2024", "#6c757d", "#f1f3f5"  # of text, of what stands back, and of areas behind the data

DPI = 140
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#ced4da",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "figure.dpi": DPI,
    "figure.titlesize": 10.5,
    "figure.titleweight": "bold",
    "grid.color": "#e3e7eb",
    "grid.linewidth": 0.7,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "xtick.color": "#ced4da",
    "xtick.labelcolor": INK,
    "ytick.color": "#ced4da",
    "ytick.labelcolor": INK,
}


@contextmanager
def chart(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` inches to draw in; written to `path` as PNG when the block ends without an error.

    The user's own matplotlib settings have no effect, and the file carries neither date nor version: the same data
    give the same bytes with the same matplotlib. Raises RequestError when the file cannot be written.
    """
    from cycler import cycler
    from matplotlib import style
    from matplotlib.figure import Figure

    cycle = cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GRAY])
    with style.context({**_STYLE, "axes.prop_cycle": cycle}, after_reset=True):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with replacing(path) as fresh, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a name in a script without a font
            figure.savefig(fresh, format="png", metadata={"Software": None})
