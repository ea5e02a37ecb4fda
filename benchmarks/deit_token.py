"""DeiT's distillation token: none, soft labels, hard labels without the token, and hard labels with it.

    python benchmarks/deit_token.py --train-data TRAIN --test-data TEST [--teacher FILE] [--images N] [--epochs E]
    python benchmarks/deit_token.py --page-only

All arms have the same images, augmentation, steps and learning rate, and nothing is tuned for any. Soft labels are
those of DeiT's table 3: temperature 3, a tenth of the loss. Trainings stay in `--out` and are resumed. Writes
docs/measured/deit-token.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
from arms import Arm, ArmRun, options_for, run, schedule_of, shape_of, write_arms
from shared import MEASURED
from small_vit import RECIPE, spec_of

from mobilevit_sdk.models.vit import ViTConfig
from mobilevit_sdk.recipe import Distillation

ARMS = {
    "none": None,
    "soft": Distillation(kind="soft", temperature=3.0, weight=0.1),
    "hard": Distillation(kind="hard"),
    "token": Distillation(kind="hard"),
}
_PAGE = """# DeiT's distillation token, measured

Written by `python benchmarks/deit_token.py`, whose docstring says what is compared and how. Small vision transformers,
trained from nothing on {train_images:,} images of CIFAR-10 for {epochs} epochs (learning rate {learning_rate}), judged
on {test_images:,} test images. DeiT's numbers are of ImageNet and 300 epochs: this is a small look at its mechanism,
not a repetition. *hard* learns labels and teacher with one head, *token* with one head each, whose mean it answers.

Top-1 of each seed and the mean. A difference is called a tie where the seeds disagree on its sign, or where it is not
larger than both the spread of an arm's seeds and what chance gives on so few test images (95%).

"""


def arms_of(options: argparse.Namespace, labels: tuple[str, ...] | None) -> list[Arm]:
    shape, how = shape_of(options, labels), schedule_of(options)
    found = []
    for name, distillation in ARMS.items():
        token = name == "token"
        config = ViTConfig(**shape, distillation_token=token, distillation_head=token)
        recipe = msgspec.structs.replace(RECIPE, **how, distillation=distillation)
        found.append(Arm(name, spec_of(config, labels), recipe))
    return found


def write(runs: list[ArmRun], page: Path) -> None:
    write_arms(_PAGE, runs, list(ARMS), page)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_for(__doc__, "deit-token", MEASURED / "deit-token.md", images=49_500, epochs=10)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--patch", type=int, default=4)
    run(parser, arguments, arms_of, write)


if __name__ == "__main__":
    main()
