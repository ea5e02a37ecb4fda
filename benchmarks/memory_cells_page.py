"""docs/measured/memory.md and its plot, from the records of memory_cells.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from shared import read_record, write_page
from small_vit import each_and_mean, verdict

from mobilevit_sdk.charts import BLUE, DIM, GREEN, ORANGE, chart
from mobilevit_sdk.spec import Strict


class Base(Strict, frozen=True):
    """How the base was trained; top-1 is on images of its own that it did not learn from."""

    images: int
    epochs: int
    top1: float
    validation_images: int


class Fit(Strict, frozen=True):
    """One training of one arm."""

    arm: str
    learning_rate: float
    seed: int
    learned: int  # parameters
    images: int
    views: int
    epochs: int
    steps: int
    loss: float  # of the last step
    validation: float  # top-1
    validation_images: int


class Tested(Strict, frozen=True):
    """A fit on the test images; of an arm with a task, what the network with that task answers beside it."""

    arm: str
    learning_rate: float
    seed: int
    top1: float
    images: int
    base_unchanged: bool | None = None  # every bit of the base's answers
    difference: float | None = None  # largest, of the task's scores


def chosen(fits: Sequence[Fit]) -> dict[str, float]:
    """The learning rate of each arm: the best on validation images, of several the lowest; seed 0 decides."""
    by_arm: dict[str, list[Fit]] = {}
    for fit in fits:
        if fit.seed == 0:
            by_arm.setdefault(fit.arm, []).append(fit)
    return {
        arm: min(each, key=lambda fit: (-fit.validation, fit.learning_rate)).learning_rate
        for arm, each in by_arm.items()
    }


_PAGE = """# Learnable memory, measured

Written by `python benchmarks/memory_cells.py`, whose docstring says how. {base}
The new task is CIFAR-100: {images:,} training images in {views} augmented views, {epochs} epochs ({steps:,} steps of
128), AdamW; {test_images:,} test images. All arms but the last leave every weight of the base as it is.

The paper (arXiv 2203.15243, table 2: ViT-B/32 of ImageNet-21k, CIFAR-100) has 85.8 for the head, 88.6 with a class
token, 90.9, 91.0 and 91.1 with 1, 5 and 10 cells, and 91.8 for full fine-tuning. A base this small that knows ten
classes is no such base: what can be compared is the order.

![top-1 of the new task](memory.png)

Top-1 of each seed and the mean. The last column compares with the arm above: a tie where the seeds disagree on the
sign, or where the difference is not larger than both the spread of an arm's seeds and what chance gives on so few test
images (95%).

| what learns | parameters | learning rate | validation | test | points over head alone | over the arm above |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
"""

_NAMES = {"head": "head alone", "0 cells": "head, class token", "1 cells": "head, class token, 1 cell", "full": "all"}


def write_memory(folder: Path, path: Path) -> None:
    """The page, and the plot beside it, from what the folder of records holds."""
    fits = [read_record(each, Fit) for each in sorted((folder / "fits").glob("*.json"))]
    tested = [read_record(each, Tested) for each in sorted((folder / "tested").glob("*.json"))]
    if not tested:
        raise SystemExit("no arm has been tested yet")
    record = folder / "base.json"
    write_page(page(read_record(record, Base) if record.exists() else None, fits, tested), path)
    plot(at_chosen_rate(tested, fits), path.with_suffix(".png"))


def order(arm: str) -> float:
    """Head, cells by their number, full."""
    return {"head": -1.0, "full": float("inf")}.get(arm) or float(arm.split()[0])


def page(base: Base | None, fits: Sequence[Fit], tested: Sequence[Tested]) -> str:
    rates, above = chosen(fits), ""
    tested = at_chosen_rate(tested, fits)
    arms = _by_arm(tested)
    one = fits[0]
    text = "The base is a trained ViT."
    if base:
        text = (
            f"The base, a ViT with\npatches of 8 pixels, learned CIFAR-10 in {base.epochs} epochs of {base.images:,} "
            f"images and classifies {base.top1:.1%} of {base.validation_images:,} others right."
        )
    facts = {name: getattr(one, name) for name in ("images", "views", "epochs", "steps")}
    parts = [_PAGE.format(base=text, test_images=tested[0].images, **facts)]
    for arm in arms:
        parts.append(_row(arm, arms, above, [fit for fit in fits if fit.learning_rate == rates[fit.arm]]))
        above = arm
    parts.append("\n" + _rates(fits, rates))
    if with_task := [each for each in tested if each.difference is not None]:
        unchanged = sum(bool(each.base_unchanged) for each in with_task)
        worst = max(each.difference or 0.0 for each in with_task)
        parts.append(
            f"\nThe network that answers base and task together gave the base's own scores unchanged to the bit in "
            f"{unchanged}\nof {len(with_task)} cases, and the task's as they were trained, within {worst:.1e}.\n"
        )
    return "".join(parts)


def at_chosen_rate(tested: Sequence[Tested], fits: Sequence[Fit]) -> list[Tested]:
    """A later search may have chosen another rate than an arm was tested with before."""
    rates = chosen(fits)
    return [each for each in tested if each.learning_rate == rates[each.arm]]


def _by_arm(tested: Sequence[Tested]) -> dict[str, list[Tested]]:
    found: dict[str, list[Tested]] = {}
    for each in sorted(tested, key=lambda each: (order(each.arm), each.seed)):
        found.setdefault(each.arm, []).append(each)
    return found


def _row(arm: str, arms: dict[str, list[Tested]], above: str, fits: Sequence[Fit]) -> str:
    own = [fit for fit in fits if fit.arm == arm]
    shares = {name: {each.seed: each.top1 for each in rows} for name, rows in arms.items()}
    name = _NAMES.get(arm, f"head, class token, {arm}")
    cells = [name, f"{own[0].learned:,}", f"{own[0].learning_rate:g}", each_and_mean([fit.validation for fit in own])]
    cells.append(each_and_mean(list(shares[arm].values())))
    beyond, against = _paired(shares, arm, "head"), _paired(shares, arm, above)
    cells.append(f"{100 * (mean(beyond[0]) - mean(beyond[1])):+.1f}" if beyond else "")
    cells.append(verdict(*against, arms[arm][0].images) if against else "")
    return f"| {' | '.join(cells)} |\n"


def _paired(shares: dict[str, dict[int, float]], arm: str, other: str) -> tuple[list[float], list[float]] | None:
    """Of two arms, the shares of the seeds that both have."""
    seeds = sorted(set(shares[arm]) & set(shares.get(other, {})))
    return (
        ([shares[arm][seed] for seed in seeds], [shares[other][seed] for seed in seeds])
        if seeds and arm != other
        else None
    )


def _rates(fits: Sequence[Fit], rates: dict[str, float]) -> str:
    """What was tried for each arm, and which arms took the lowest or the highest of several."""
    tried = {arm: sorted({fit.learning_rate for fit in fits if fit.seed == 0 and fit.arm == arm}) for arm in rates}
    arms_of: dict[str, list[str]] = {}
    for arm in sorted(rates, key=order):
        arms_of.setdefault(", ".join(f"{rate:g}" for rate in tried[arm]), []).append(_NAMES.get(arm, arm))
    text = "; ".join(f"{each} ({'; '.join(arms)})" for each, arms in arms_of.items())
    text = f"Learning rates tried: {text}."
    edge = [arm for arm, rate in rates.items() if len(tried[arm]) > 1 and rate in (tried[arm][0], tried[arm][-1])]
    if edge:
        names = "; ".join(_NAMES.get(arm, arm) for arm in sorted(edge, key=order))
        text += f" At an end of them, so that a wider search may find better: {names}."
    return f"{text}\n"


def plot(tested: Sequence[Tested], path: Path) -> None:
    """Top-1 over the number of cells, one dot a seed; head alone and full fine-tuning as lines."""
    from matplotlib.ticker import PercentFormatter

    arms = _by_arm(tested)
    with chart(path, 6, 3.4) as figure:
        axes = figure.subplots()
        cells = [arm for arm in arms if arm.endswith("cells")]
        places = range(len(cells))
        axes.plot(
            places, [mean(each.top1 for each in arms[arm]) for arm in cells], color=BLUE, label="class token and memory"
        )
        for place, arm in zip(places, cells, strict=True):
            axes.plot([place] * len(arms[arm]), [each.top1 for each in arms[arm]], "o", color=BLUE, ms=4)
        for arm, color in (("head", ORANGE), ("full", GREEN)):
            if arm in arms:
                level = mean(each.top1 for each in arms[arm])
                axes.axhline(
                    level, color=color, ls="--", lw=1.2, label={"head": "head alone", "full": "all weights"}[arm]
                )
                for each in arms[arm]:
                    axes.axhline(each.top1, color=color, lw=0.4, alpha=0.6)
        axes.set(xlabel="memory cells in each block", ylabel="test images classified right")
        axes.set_xticks(places, [arm.split()[0] for arm in cells])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.tick_params(colors=DIM, labelcolor="black")
        axes.margins(x=0.1, y=0.15)
        axes.legend(loc="best")
        figure.suptitle("CIFAR-100 on a frozen network of CIFAR-10")
