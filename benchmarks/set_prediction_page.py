"""docs/measured/set-prediction.md and its plot, from the records of set_prediction.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared import bold_above, write_page

from mobilevit_sdk.charts import BLUE, ORANGE, chart
from mobilevit_sdk.spec import Strict

CONFIDENT = (0.5, 0.7, 0.9)  # a box is shown from one of these probabilities on
SUPPRESSED = 0.7  # IoU of two boxes of a class from which one duplicates the other
COLORS = {"auxiliary": BLUE, "last layer": ORANGE}


class Answers(Strict, frozen=True):
    """On test pictures, with and without non-maximum suppression; shares from 0 to 1."""

    test_images: int
    objects: int
    ap: float
    ap50: float
    suppressed_ap: float
    suppressed_ap50: float
    confident: list[int]  # boxes, for each of CONFIDENT
    duplicates: list[int]  # of those


class Run(Strict, frozen=True):
    """One training of one arm; average precision on the test pictures after each epoch."""

    arm: str
    seed: int
    parameters: int
    images: int
    epochs: int
    batch_size: int
    learning_rate: float
    seconds: float
    ap: list[float]
    ap50: list[float]
    answers: Answers


_PAGE = """# Set prediction, measured

Written by `python benchmarks/set_prediction.py`, whose docstring says what is compared and how. A small DETR
({parameters:,} parameters, 128x128 pixels, 64 tokens, 10 queries) learns from nothing on {images:,} drawn pictures of
one to five circles, squares and triangles, for {epochs} epochs of {steps:,} steps, and is judged on {test_images:,}
others with {objects:,} shapes. Nothing was chosen on these: the weights are those of the last epoch. With *auxiliary*
losses every decoder layer is asked for the objects, without them only the last.

![average precision over the epochs](set-prediction.png)

## Average precision

| | seed | AP | AP50 | minutes |
| --- | ---: | ---: | ---: | ---: |
"""

_SUPPRESSION = """
## No suppression is needed

DETR's claim is that queries see each other, so that no two answer the same object. Average precision is that of all
answers, and of those that suppression within classes leaves (IoU above {suppressed}).

| | seed | AP | suppressed | AP50 | suppressed |
| --- | ---: | ---: | ---: | ---: | ---: |
"""

_DUPLICATES = """
## Duplicates

How many of the boxes that are shown overlap a likelier one of their class by an IoU above {suppressed}, by the
probability from which on a box is shown. In bold what is above 2%, the bar: this small network misses it after {epochs}
epochs. Auxiliary losses make duplicates fewer, and so does a higher threshold.

| | seed | {shown} |
| --- | ---: | {columns} |
"""


def write_set_prediction(runs: Sequence[Run], folder: Path) -> None:
    """The page and the plot in `folder`; the runs have one shape."""
    first = runs[0]
    text = _PAGE.format(
        parameters=first.parameters,
        images=first.images,
        epochs=first.epochs,
        steps=-(-first.images // first.batch_size),
        test_images=first.answers.test_images,
        objects=first.answers.objects,
    )
    for run in runs:
        text += f"| {run.arm} | {run.seed} | {run.ap[-1]:.1%} | {run.ap50[-1]:.1%} | {run.seconds / 60:.0f} |\n"
    text += _SUPPRESSION.format(suppressed=SUPPRESSED)
    for run in runs:
        found = run.answers
        shares = (found.ap, found.suppressed_ap, found.ap50, found.suppressed_ap50)
        text += f"| {run.arm} | {run.seed} | {' | '.join(f'{share:.1%}' for share in shares)} |\n"
    text += _DUPLICATES.format(
        suppressed=SUPPRESSED,
        epochs=first.epochs,
        shown=" | ".join(f"from {probability:.0%} on" for probability in CONFIDENT),
        columns=" | ".join(["---:"] * len(CONFIDENT)),
    )
    for run in runs:
        cells = []
        for duplicates, boxes in zip(run.answers.duplicates, run.answers.confident, strict=True):
            share = 100 * duplicates / max(boxes, 1)
            cells.append(f"{duplicates:,} of {boxes:,}, {bold_above(share, 2, '.1f')}%")
        text += f"| {run.arm} | {run.seed} | {' | '.join(cells)} |\n"
    write_page(text, folder / "set-prediction.md")
    _plot(runs, folder / "set-prediction.png")


def _plot(runs: Sequence[Run], path: Path) -> None:
    from matplotlib.ticker import PercentFormatter

    with chart(path, 9, 3.4) as figure:
        for axes, name, title in zip(figure.subplots(1, 2), ("ap50", "ap"), ("AP50", "AP"), strict=True):
            for run in runs:
                shares = getattr(run, name)
                label = {"auxiliary": "auxiliary losses", "last layer": "last layer alone"}[run.arm]
                axes.plot(
                    range(1, len(shares) + 1), shares, color=COLORS[run.arm], label=label if not run.seed else None
                )
            axes.set(title=f"{title} on test pictures", xlabel="epoch", ylim=(0, 1))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            axes.legend(loc="upper left")
