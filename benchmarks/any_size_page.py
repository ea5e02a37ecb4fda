"""docs/measured/any-size.md and its plot, from the records of any_size.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from shared import write_page
from small_vit import each_and_mean, verdict

from mobilevit_sdk.charts import BLUE, DIM, ORANGE, chart
from mobilevit_sdk.spec import Strict

_COLORS = (DIM, BLUE, ORANGE)


class Run(Strict, frozen=True):
    """One training of one arm, judged at each size."""

    arm: str
    seed: int
    parameters: int
    shape: str
    train_images: int
    test_images: int
    epochs: int
    tokens: float  # that the training computes
    drop: float
    learning_rate: float
    sizes: list[int]
    top1: list[float]


_PAGE = """# Any size: packed NaViT against networks trained at one size, measured

Written by `python benchmarks/any_size.py`, whose docstring says what is compared and how. Small networks ({shape}),
trained from nothing on {train_images:,} images of CIFAR-10, learning rate {learning_rate:g}, {seeds}, judged on
{test_images:,} test images at every size. The paper's claim is about hundreds of millions of images: this is a small
look at its mechanism.

![top-1 at each size](any-size.png)

| training | epochs | millions of tokens | parameters |
| --- | ---: | ---: | ---: |
"""

_SIZES = """
Top-1 of each seed, and of several the mean; differences of the packed training to the others, in points. A difference
is called a tie where the seeds disagree on its sign, or where it is not larger than both the spread of an arm's seeds
and what chance gives on so few test images (95%).

| pixels | {arms} | {others} |
| ---: | {lines} | {words} |
"""


def write_any_size(runs: Sequence[Run], page: Path) -> None:
    """Write the page and its plot."""
    first = runs[0]
    arms = list(dict.fromkeys(run.arm for run in runs))
    of = {arm: [run for run in runs if run.arm == arm] for arm in arms}
    seeds = len(of[arms[0]])
    text = _PAGE.format(
        shape=first.shape,
        train_images=first.train_images,
        test_images=first.test_images,
        learning_rate=first.learning_rate,
        seeds=f"{seeds} seed{'s' if seeds > 1 else ''}",
    )
    for arm in arms:
        run = of[arm][0]
        dropped = f", {run.drop:.0%} of the patches dropped" if run.drop else ""
        text += f"| {arm}{dropped} | {run.epochs} | {run.tokens / 1e6:.1f} | {run.parameters:,} |\n"
    text += _SIZES.format(
        arms=" | ".join(arms),
        lines=" | ".join("---:" for _ in arms),
        others=" | ".join(f"to {arm}" for arm in arms[:-1]),
        words=" | ".join("---" for _ in arms[:-1]),
    )
    for index, size in enumerate(first.sizes):
        top1 = [[run.top1[index] for run in of[arm]] for arm in arms]
        text += f"| {size} | {' | '.join(map(each_and_mean, top1))} "
        for other in top1[:-1]:
            difference = 100 * (mean(top1[-1]) - mean(other))
            text += f"| {difference:+.1f}: {verdict(top1[-1], other, first.test_images)} "
        text += "|\n"
    write_page(text, page)
    with chart(page.with_suffix(".png"), width=7, height=4) as figure:
        axes = figure.subplots()
        for arm, color in zip(arms, _COLORS, strict=True):
            means = [mean(run.top1[index] for run in of[arm]) for index in range(len(first.sizes))]
            axes.plot(first.sizes, [100 * each for each in means], color=color, marker="o", label=arm)
        axes.set_xlabel("pixels of a side")
        axes.set_ylabel("top-1, %")
        axes.legend()
