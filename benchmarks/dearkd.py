"""DearKD's parts with little data: relative positions, hidden layers, both, and a second stage of labels alone.

    python benchmarks/dearkd.py --train-data TRAIN --test-data TEST [--teacher FILE] [--images N] [--epochs E]
    python benchmarks/dearkd.py --page-only

All arms have a distillation token, hard labels of the teacher, the same images, augmentation, steps and learning rate,
and nothing is tuned for any. A claim about little data wants a teacher that saw no more: `--teacher` is a checkpoint,
or `python:file.py:function`, and `--teacher-layer` its layer with a map about as large as the grid of patches.
Trainings stay in `--out` and are resumed. Writes docs/measured/dearkd.md and a plot of how far attention reaches.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import msgspec
from arms import Arm, ArmRun, options_for, run, schedule_of, shape_of, write_arms
from shared import MEASURED
from small_vit import RECIPE, SIZE, spec_of

from mobilevit_sdk.charts import BLUE, GREEN, ORANGE, PURPLE, SKY, chart
from mobilevit_sdk.models.dearkd import DearKDConfig
from mobilevit_sdk.recipe import Distillation, HiddenLayer

# Of each arm: relative positions, hidden layers, a second stage.
ARMS = {
    "DeiT": (False, False, False),
    "positions": (True, False, False),
    "hidden": (False, True, False),
    "both": (True, True, False),
    "two stages": (True, True, True),
}
COLORS = dict(zip(ARMS, (BLUE, ORANGE, PURPLE, SKY, GREEN), strict=True))
_PAGE = """# The parts of DearKD with little data, measured

Written by `python benchmarks/dearkd.py`, whose docstring says what is compared and how. Small vision transformers with
a distillation token, trained from nothing on {train_images:,} images of CIFAR-10 for {epochs} epochs (learning rate
{learning_rate}), judged on {test_images:,} test images. The paper's numbers are of ImageNet: this is a small look at
its mechanism, not a repetition. *positions*: relative positions inside the softmax of the first blocks, which begin as
a convolution; *hidden*: their answers are taught by a layer of the teacher; *two stages*: both, and the teacher leaves
early.

![mean attention distance of the first and of the last block over the training](dearkd.png)

Top-1 of each seed and the mean. A difference is called a tie where the seeds disagree on its sign, or where it is not
larger than both the spread of an arm's seeds and what chance gives on so few test images (95%).

"""


def arms_of(options: argparse.Namespace, labels: tuple[str, ...] | None) -> list[Arm]:
    shape, how = shape_of(options, labels), schedule_of(options)
    layer = HiddenLayer(student=options.student_layer, teacher=options.teacher_layer, weight=options.hidden_weight)
    found = []
    for name, (positions, hidden, stages) in ARMS.items():
        config = DearKDConfig(**shape, relative_blocks=options.relative_blocks if positions else 0)
        distillation = Distillation(
            kind="hard", hidden=(layer,) if hidden else (), until=options.until if stages else 1.0
        )
        recipe = msgspec.structs.replace(RECIPE, **how, distillation=distillation, attention_distance=True)
        found.append(Arm(name, spec_of(config, labels, "dearkd"), recipe))
    return found


def write(runs: list[ArmRun], page: Path) -> None:
    plot(runs, page.with_suffix(".png"))
    write_arms(_PAGE, runs, list(ARMS), page)


def plot(runs: Sequence[ArmRun], path: Path) -> None:
    """Mean attention distance over the epochs, the mean of all seeds, of the first block and of the last."""
    from matplotlib.ticker import MaxNLocator

    with chart(path, 9, 3.6) as figure:
        for axes, block, title in zip(figure.subplots(1, 2, sharey=True), (0, -1), ("first", "last"), strict=True):
            for name, color in COLORS.items():
                if own := [each.attention_distance for each in runs if each.arm == name]:
                    epochs = min(map(len, own))
                    distances = [mean(seed[epoch][block] for seed in own) for epoch in range(epochs)]
                    axes.plot(range(1, epochs + 1), distances, color=color, label=name)
            axes.set(title=f"{title} block", xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if not block:
                axes.set_ylabel("mean attention distance, pixels")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.suptitle(f"How far attention reaches in images of {SIZE} pixels")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_for(__doc__, "dearkd", MEASURED / "dearkd.md", images=5_000, epochs=100)
    parser.add_argument("--dim", type=int, default=72)
    parser.add_argument("--heads", type=int, default=9, help="9 make a grid of 3x3")
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--patch", type=int, default=4)
    parser.add_argument("--relative-blocks", type=int, default=4)
    parser.add_argument("--student-layer", default="blocks.1")
    parser.add_argument("--teacher-layer", default="stages.2", help="that of MobileViT-XXS at 64 pixels is 8x8")
    parser.add_argument("--hidden-weight", type=float, default=1.0)
    parser.add_argument("--until", type=float, default=0.8, help="share of the first stage; the paper's is 250 of 300")
    run(parser, arguments, arms_of, write)


if __name__ == "__main__":
    main()
