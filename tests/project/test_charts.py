"""The style that all plots share: the same picture whatever the user's settings, and never half a file."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mobilevit_sdk import charts


def _draw(path: Path) -> bytes:
    with charts.chart(path, 3, 2) as figure:
        figure.subplots().plot([1, 3, 2], label="a line")
    return path.read_bytes()


def test_settings_of_the_user_change_nothing_and_are_kept(tmp_path: Path) -> None:
    first = _draw(tmp_path / "first.png")
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "savefig.dpi": 20}):
        assert _draw(tmp_path / "second.png") == first
        assert matplotlib.rcParams["lines.linewidth"] == 9


def test_the_file_is_a_png_without_date_and_version(tmp_path: Path) -> None:
    _draw(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (3 * charts.DPI, 2 * charts.DPI)
        assert not picture.text  # type: ignore[attr-defined]


def test_a_plot_that_fails_leaves_the_earlier_file(tmp_path: Path) -> None:
    before = _draw(tmp_path / "a.png")
    with pytest.raises(ZeroDivisionError), charts.chart(tmp_path / "a.png", 3, 2):
        1 / 0  # noqa: B018
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


# What is left of linear RGB without red cones, without green cones, and with all (Machado et al., IEEE TVCG 2009).
VISION = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "normal": np.eye(3),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _lab(color: str, vision: np.ndarray) -> np.ndarray:
    """CIELAB of "#rrggbb" as seen."""
    encoded = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ (vision @ linear).clip(1e-4, 1) / XYZ.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_every_two_colors_are_told_apart_by_color_blind_readers(vision: str) -> None:
    colors = [charts.BLUE, charts.ORANGE, charts.GREEN, charts.RED, charts.SKY, charts.PURPLE, charts.GRAY, charts.INK]
    seen = [_lab(color, np.array(VISION[vision])) for color in colors]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 15


def test_the_report_draws_in_the_colors_of_the_charts() -> None:
    style = (Path(charts.__file__).parent / "parity" / "report" / "style.css").read_text(encoding="utf-8")
    drawn = dict(re.findall(r"--(data(?:-good|-bad)?): (#\w{6});", style))
    light = dict(re.findall(r"--(data(?:-good|-bad)?): (#\w{6});", style.partition("@media")[0]))
    assert light == {"data": charts.BLUE, "data-good": charts.GREEN, "data-bad": charts.RED}
    assert drawn["data"] == charts.SKY  # on dark
