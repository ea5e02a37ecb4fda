"""Pictures with the boxes that a detector finds on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilevit_sdk.charts import BLUE, DIM, GREEN, ORANGE, PURPLE, RED, SKY
from mobilevit_sdk.data.pictures import decode_picture
from mobilevit_sdk.evaluation.predict import DetectedObject, Prediction
from mobilevit_sdk.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)  # of classes, in turn
_MAX_SIDE = 1400  # pixels
_MAX_LABEL, _MAX_NAME = 24, 56  # characters, the rest is cut


def draw_objects(axes: Axes, prediction: Prediction) -> None:
    """The whole picture, upright, with a box in the color of its class, its name and how likely it is, for each object.

    The likeliest are drawn last, above the others.
    """
    picture = decode_picture(Path(prediction.image).read_bytes())
    width, height = picture.size
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))  # a chart has no room for more
    axes.imshow(picture, interpolation="antialiased", extent=(0, width, height, 0))
    for each in reversed(prediction.objects or ()):
        _draw_box(axes, each, height)
    title = one_line(Path(prediction.image).name, _MAX_NAME)
    axes.set_title(title if prediction.objects else f"{title}: nothing found", color=DIM, size=8, parse_math=False)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    axes.set_anchor("NW")


def _draw_box(axes: Axes, found: DetectedObject, height_of_picture: int) -> None:
    from matplotlib.patches import Rectangle

    x, y, width, height = found.box
    color = COLORS[found.index % len(COLORS)]
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=color, linewidth=1.6))
    tag: dict[str, Any] = {"facecolor": color, "edgecolor": color, "linewidth": 1.6, "pad": 1.2}
    has_room = y > height_of_picture / 12  # above the box
    axes.text(
        x,
        y,
        f"{one_line(found.name, _MAX_LABEL)} {found.probability:.0%}",
        color="white",
        size=6.5,
        weight="bold",
        va="bottom" if has_room else "top",
        clip_on=True,
        parse_math=False,
        bbox=tag,
    )
