"""A picture of predictions: each image as the network sees it, with bars to the probabilities of its best classes.

Of a detector, the whole images with the boxes on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mobilevit_sdk.charts import BLUE, DIM, GRAY, INK, chart
from mobilevit_sdk.data import crop_image
from mobilevit_sdk.data.pictures import decode_picture
from mobilevit_sdk.evaluation.detection_chart import draw_objects
from mobilevit_sdk.evaluation.predict import Prediction, Predictions
from mobilevit_sdk.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_IMAGES = 40  # in one picture
_PER_ROW = 2  # of several images
_HEIGHT_OF_BOXES = 3.6  # inches
_MAX_LABEL, _MAX_NAME = 28, 52  # characters, the rest is cut


def write_predictions_chart(found: Predictions, path: Path) -> list[str]:
    """Write a PNG with the first 40 images that were answered; notes say what is not in it.

    Without any such image nothing is written. Raises RequestError when the file cannot be written.
    """
    answered = [each for each in found.predictions if each.classes or each.objects is not msgspec.UNSET]
    if not answered:
        return [f"{path} is not written: no image was answered"]
    shown = answered[:MAX_IMAGES]
    top = max(len(prediction.classes or ()) for prediction in shown)
    columns = min(_PER_ROW, len(shown))
    rows = -(-len(shown) // columns)
    height = max(1.75, 0.55 + 0.3 * top) if top else _HEIGHT_OF_BOXES
    with chart(path, 4.6 * columns, rows * height + 0.35) as figure:
        if engine := figure.get_layout_engine():
            engine.set(w_pad=0.12, h_pad=0.1)  # type: ignore[call-arg]  # inches, of the constrained layout
        if top:
            _draw_classes(figure, shown, rows, columns, top, found)
        else:
            places = figure.subplots(rows, columns, squeeze=False).flatten()
            for axes in places[len(shown) :]:
                axes.remove()
            for axes, prediction in zip(places, shown, strict=False):
                draw_objects(axes, prediction)
        figure.suptitle(
            one_line(f"{Path(found.target).name} · {found.runtime}", 80), x=0.12 / figure.get_figwidth(), ha="left"
        )
    left_out = len(answered) - len(shown)
    return [f"{path} shows the first {MAX_IMAGES} of {len(answered)} images"] if left_out else []


def _draw_classes(
    figure: Figure, shown: Sequence[Prediction], rows: int, columns: int, top: int, found: Predictions
) -> None:
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=[1.4, 3] * columns)
    places = [(row[2 * column], row[2 * column + 1]) for row in grid for column in range(columns)]
    for picture, bars in places[len(shown) :]:
        picture.remove()
        bars.remove()
    for (picture, bars), prediction in zip(places, shown, strict=False):
        _draw_image(picture, prediction, found)
        _draw_bars(bars, prediction, top)


def _draw_image(axes: Axes, prediction: Prediction, found: Predictions) -> None:
    picture = decode_picture(Path(prediction.image).read_bytes())
    pixels = crop_image(picture, found.preprocessing_for(*picture.size))
    axes.imshow(pixels.transpose(1, 2, 0), interpolation="antialiased")
    axes.set_axis_off()
    axes.set_anchor("NW")


def _draw_bars(axes: Axes, prediction: Prediction, top: int) -> None:
    """A thin bar for each class, its label above it at the left and its share at the right."""
    for place, each in enumerate(prediction.classes or ()):
        axes.barh(place + 0.22, 1, height=0.2, color="#eef1f4")
        axes.barh(place + 0.22, each.probability, height=0.2, color=GRAY if place else BLUE)
        style: dict[str, Any] = {
            "color": DIM if place else INK,
            "weight": "normal" if place else "bold",
            "va": "bottom",
        }
        axes.text(0, place + 0.06, _cut(each.name, _MAX_LABEL), parse_math=False, **style)
        axes.text(1, place + 0.06, f"{each.probability:.1%}", ha="right", **style)
    axes.set_title(_cut(Path(prediction.image).name, _MAX_NAME), color=DIM, size=8, parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(max(top, 4) - 0.4, -0.55)
    axes.set_axis_off()


def _cut(text: str, limit: int) -> str:
    text = one_line(text, limit + 1)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
