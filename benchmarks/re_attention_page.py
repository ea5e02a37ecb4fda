"""docs/measured/re-attention.md and its plot, from the records of re_attention.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from shared import write_page
from small_vit import each_and_mean, verdict

from mobilevit_sdk.charts import BLUE, DIM, ORANGE, chart
from mobilevit_sdk.spec import Strict

SIMILAR = 0.9  # above it the paper calls a block similar to the one before it
COLORS = {"plain": BLUE, "re-attention": ORANGE}


class Statistics(Strict, frozen=True):
    """Of the maps of attention on test images: similarity of each block and the next, and what rows look like."""

    softmax: list[float]
    used: list[float]  # of the maps that weigh the values: after the mixing, where there is any
    row_sum: float
    row_sum_deviation: float
    negative: float  # share of entries


class Run(Strict, frozen=True):
    """One training of one arm."""

    arm: str
    depth: int
    seed: int
    parameters: int
    shape: str
    tokens: int
    train_images: int
    epochs: int
    steps: int
    learning_rate: float
    test_images: int
    top1: float
    loss: float
    untrained: Statistics
    trained: Statistics


_PAGE = """# Re-attention against plain attention, measured

Written by `python benchmarks/re_attention.py`, whose docstring says what is compared and how. Small vision transformers
({shape}, {tokens} tokens), trained from nothing on {train_images:,} images of CIFAR-10 for {epochs} epochs ({steps:,}
steps, learning rate {learning_rate:g}), judged on {test_images:,} test images. DeepViT's claim is about 16 blocks and
more, 197 tokens and 300 epochs of ImageNet: this is a small look at its mechanism, not a repetition.

![similarity of the maps of adjacent blocks, and top-1](re-attention.png)

## Accuracy

Top-1 of each seed and the mean. A difference is called a tie where the seeds disagree on its sign, or where it is not
larger than both the spread of an arm's seeds and what chance gives on so few test images (95%).

| blocks | plain | re-attention | difference, points | |
| ---: | ---: | ---: | ---: | --- |
"""

_SIMILARITY = """
## Similarity of adjacent blocks

Mean over all pairs of a block and the next, and over seeds; in brackets how many of the pairs are above {similar},
which the paper calls similar. *Softmax maps*: those before heads are mixed; without re-attention there are no others.
The last two columns are the thirds of the depth.

| blocks | arm | untrained | trained | of its softmax maps | first third | last third |
| ---: | --- | ---: | ---: | ---: | ---: | ---: |
"""

_ROWS = """
## What the mixed maps are

The rows of softmax sum to 1. Those of re-attention need not: BatchNorm gives each head's maps the mean and deviation
that it has learned, so entries may be negative, and at first they are of size 1 instead of 1/N. That makes the first
steps rough, so both arms warm up over half an epoch. A low similarity is partly BatchNorm's doing, which takes away the
mean that all maps have in common: compare with the untrained network and with the softmax maps.

| blocks | a row's sum, trained | its deviation | negative entries | training loss, plain | re-attention |
| ---: | ---: | ---: | ---: | ---: | ---: |
"""


def write_re_attention(runs: Sequence[Run], path: Path) -> None:
    """The page, and the plot beside it. Only seeds that both arms have of a depth are compared."""
    pairs = paired(runs)
    if not pairs:
        raise SystemExit("no depth has a run of both arms yet")
    write_page(page(pairs), path)
    plot(pairs, path.with_suffix(".png"))


Pairs = dict[int, dict[str, list[Run]]]  # depth -> arm -> the runs, seed by seed


def paired(runs: Sequence[Run]) -> Pairs:
    found: Pairs = {}
    for depth in sorted({run.depth for run in runs}):
        arms = {arm: {run.seed: run for run in runs if (run.arm, run.depth) == (arm, depth)} for arm in COLORS}
        seeds = sorted(set.intersection(*(set(each) for each in arms.values())))
        if seeds:
            found[depth] = {arm: [each[seed] for seed in seeds] for arm, each in arms.items()}
    return found


def page(pairs: Pairs) -> str:
    one = next(iter(pairs.values()))["plain"][0]
    facts = {name: getattr(one, name) for name in one.__struct_fields__}
    parts = [_PAGE.format(**facts)]
    parts += [_accuracy(depth, **_arms(arms)) for depth, arms in pairs.items()]
    seeds = sorted({len(arms["plain"]) for arms in pairs.values()})
    parts.append(f"\nSeeds: {' or '.join(map(str, seeds))}. {_parameters(pairs)}\n")
    parts.append(_SIMILARITY.format(similar=SIMILAR))
    parts += [_similarity(depth, arm, runs) for depth, arms in pairs.items() for arm, runs in arms.items()]
    parts.append(_ROWS)
    parts += [_rows(depth, **_arms(arms)) for depth, arms in pairs.items()]
    return "".join(parts)


def _arms(arms: dict[str, list[Run]]) -> dict[str, list[Run]]:
    return {"plain": arms["plain"], "ours": arms["re-attention"]}


def _accuracy(depth: int, plain: list[Run], ours: list[Run]) -> str:
    left, right = [run.top1 for run in plain], [run.top1 for run in ours]
    differences = " / ".join(f"{100 * (b - a):+.1f}" for a, b in zip(left, right, strict=True))
    said = {"better": "re-attention is better", "worse": "plain is better"}
    found = verdict(right, left, plain[0].test_images)
    return f"| {depth} | {each_and_mean(left)} | {each_and_mean(right)} | {differences} | {said.get(found, found)} |\n"


def _parameters(pairs: Pairs) -> str:
    counts = [f"{arms[arm][0].parameters:,}" for arms in pairs.values() for arm in COLORS]
    return f"Parameters, in the order of the table's cells: {', '.join(counts)}."


def _similarity(depth: int, arm: str, runs: list[Run]) -> str:
    third = max(1, (depth - 1) // 3)
    used = _means([run.trained.used for run in runs])
    cells = [_counted(_means([run.untrained.used for run in runs])), _counted(used)]
    cells.append(_counted(_means([run.trained.softmax for run in runs])))
    cells += [f"{mean(used[:third]):.2f}", f"{mean(used[-third:]):.2f}"]
    return f"| {depth} | {arm} | {' | '.join(cells)} |\n"


def _counted(values: list[float]) -> str:
    return f"{mean(values):.2f} ({sum(value > SIMILAR for value in values)} of {len(values)})"


def _means(rows: list[list[float]]) -> list[float]:
    return [mean(column) for column in zip(*rows, strict=True)]


def _rows(depth: int, plain: list[Run], ours: list[Run]) -> str:
    def of(name: str) -> float:
        return mean(getattr(run.trained, name) for run in ours)

    losses = [f"{mean(run.loss for run in arm):.3f}" for arm in (plain, ours)]
    return (
        f"| {depth} | {of('row_sum'):.2f} | {of('row_sum_deviation'):.2f} | {of('negative'):.0%} "
        f"| {' | '.join(losses)} |\n"
    )


def plot(pairs: Pairs, path: Path) -> None:
    """A panel for each depth, similarity over the blocks with one line a seed, and one with top-1."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    with chart(path, 3 * (len(pairs) + 1), 3.2) as figure:
        *panels, last = figure.subplots(1, len(pairs) + 1)
        for axes, (depth, arms) in zip(panels, pairs.items(), strict=True):
            for arm, runs in arms.items():
                for run in runs:
                    blocks = range(1, depth)
                    axes.plot(blocks, run.trained.used, color=COLORS[arm], label=arm if run is runs[0] else None)
                mixed = arm != "plain"
                if mixed:
                    axes.plot(
                        blocks, _means([run.trained.softmax for run in runs]), color=COLORS[arm], ls=":", lw=1.2,
                        label="its softmax maps",
                    )  # fmt: skip
            axes.axhline(SIMILAR, color=DIM, lw=0.8, ls="--")
            axes.set(title=f"{depth} blocks", xlabel="block and the next", ylim=(min(0, axes.get_ylim()[0]), 1.03))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0].set(ylabel="cosine similarity of maps")
        panels[0].legend(loc="best")
        for shift, arm in ((-0.12, "plain"), (0.12, "re-attention")):
            places = [i + shift for i, arms in enumerate(pairs.values()) for _ in arms[arm]]
            shares = [run.top1 for arms in pairs.values() for run in arms[arm]]
            last.plot(places, shares, "o", ms=4, color=COLORS[arm], label=arm)
        last.set(
            title="top-1 of each seed", xlabel="blocks", xticks=range(len(pairs)), xticklabels=list(map(str, pairs))
        )
        last.margins(x=0.2, y=0.15)
        last.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        last.legend(loc="best")
        figure.suptitle("Maps of attention of adjacent blocks: plain and with re-attention")
