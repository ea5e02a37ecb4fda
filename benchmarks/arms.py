"""Trainings that differ in one thing, an arm each, over several seeds: the loop, its records and a page of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec
import torch
from shared import read_record, tell, write_page, write_record
from small_vit import SIZE, Teller, each_and_mean, verdict

from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.evaluation.measure import network_predictor
from mobilevit_sdk.recipe import Recipe
from mobilevit_sdk.spec import ModelSpec, Strict
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.training.heads import watch_heads
from mobilevit_sdk.training.run import train_network
from mobilevit_sdk.training.teachers import open_teachers


@dataclass(frozen=True)
class Arm:
    """What is trained, and how; with a teacher where its recipe distills."""

    name: str
    spec: ModelSpec
    recipe: Recipe


class ArmRun(Strict, frozen=True):
    """One training of one arm, its last epoch judged on test images that chose nothing."""

    arm: str
    seed: int
    parameters: int
    train_images: int
    epochs: int
    learning_rate: float
    test_images: int
    top1: float
    heads: dict[str, float]  # top-1 of each, of a network with a distillation token
    loss: float
    seconds: float  # of all its steps
    attention_distance: list[list[float]]  # of each epoch and block, in pixels, where measured


def shape_of(options: argparse.Namespace, labels: tuple[str, ...] | None) -> dict[str, Any]:
    """What the configs of all arms share."""
    return {
        "dim": options.dim,
        "num_heads": options.heads,
        "depth": options.depth,
        "patch_size": options.patch,
        "image_size": (SIZE, SIZE),
        "num_classes": len(labels or ()),
    }


def schedule_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the recipes of all arms share."""
    return {"epochs": options.epochs, "batch_size": options.batch_size, "learning_rate": options.learning_rate}


@dataclass(frozen=True)
class Images:
    """Those to train on, a few others that show how it goes, and those that judge."""

    train: ImageDataset
    shown: ImageDataset
    test: ImageDataset


def options_for(doc: str | None, name: str, page: Path, *, images: int, epochs: int) -> argparse.ArgumentParser:
    """The options that all benchmarks of arms have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train-data", type=Path)
    parser.add_argument("--test-data", type=Path)
    parser.add_argument("--teacher", help="as `mobilevit train --teacher`; by default the checkpoint that ships")
    parser.add_argument("--images", type=int, default=images, help="so many training images, the first ones")
    parser.add_argument("--validation", type=int, default=500, help="so many others, that only show how it goes")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--arms", type=lambda text: text.split(","), help="of these alone, such as none,hard")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs") / name, help="where trainings are kept")
    parser.add_argument("--page", type=Path, default=page, help="the page to write")
    parser.add_argument("--page-only", action="store_true")
    return parser


def run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    arms_of: Callable[[argparse.Namespace, tuple[str, ...] | None], Sequence[Arm]],
    write: Callable[[list[ArmRun], Path], None],
) -> None:
    """Train what the folder lacks, all arms of one seed before the next, and write the page of what it holds."""
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.page_only:
        if not options.train_data or not options.test_data:
            parser.error("give --train-data and --test-data, or --page-only")
        torch.set_num_threads(1)  # the same bits on every machine of a kind, and a resumed training goes on as begun
        data = open_dataset(options.train_data, labeled=True)
        rest = len(data) - options.validation
        images = Images(
            data.at(range(min(options.images, rest))),
            data.at(range(rest, len(data))),
            open_dataset(options.test_data, labeled=True),
        )
        arms = arms_of(options, data.class_names)
        known = [arm.name for arm in arms]
        if unknown := [name for name in options.arms or () if name not in known]:
            parser.error(f"no arm {unknown[0]!r}: there are {', '.join(known)}")
        for seed in range(options.seeds):
            for arm in arms:
                path = options.out / f"{arm.name}-{seed}.json"
                if not path.exists() and arm.name in (options.arms or known):
                    done = write_record(_train(arm, seed, images, options.teacher, path.with_suffix("")), path)
                    tell(f"{path.stem}: top-1 {done.top1:.2%}")
    write([read_record(each, ArmRun) for each in sorted(options.out.glob("*.json"))], options.page)


def _train(arm: Arm, seed: int, images: Images, teacher: str | None, out: Path) -> ArmRun:
    recipe = msgspec.structs.replace(arm.recipe, seed=seed)
    taught_by = open_teachers([teacher or load_checkpoint()]) if recipe.distillation else None
    trained = train_network(
        arm.spec,
        None,
        recipe,
        images.train,
        images.shown,
        out,
        teacher=taught_by,
        device="cpu",
        progress=Teller(out.name),
    )
    network = load_checkpoint(trained.path).model  # of the last epoch: none is chosen
    task = task_of(arm.spec)
    test = task.match(images.test)
    with watch_heads(network, test.labels) as heads:
        top1 = task.measure(network_predictor(network, arm.spec), test).top1
    rows = [msgspec.json.decode(line) for line in (out / "metrics.jsonl").read_bytes().splitlines()]
    return ArmRun(
        arm=arm.name,
        seed=seed,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        train_images=len(images.train),
        epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        test_images=len(test),
        top1=top1,
        heads=dict(heads),
        loss=trained.result.loss,
        seconds=sum(row["seconds"] for row in rows),
        attention_distance=[row["attention_distance"] for row in rows if "attention_distance" in row],
    )


def table(runs: Sequence[ArmRun], names: Sequence[str]) -> str:
    """Top-1 of each arm by seed with its heads, and what its difference from the first of `names` comes to."""
    lines = [
        f"| arm | parameters | top-1 | class head | distillation head | than {names[0]}, points | | seconds an epoch |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    by_arm = {name: sorted((each for each in runs if each.arm == name), key=lambda each: each.seed) for name in names}
    first = {each.seed: each for each in by_arm[names[0]]}
    for name, own in by_arm.items():
        if not own:
            continue
        pairs = [(each.top1, first[each.seed].top1) for each in own if each.seed in first and name != names[0]]
        difference = f"{100 * mean(mine - other for mine, other in pairs):+.1f}" if pairs else ""
        word = verdict(*zip(*pairs, strict=True), own[0].test_images) if pairs else ""
        heads = [each_and_mean([each.heads[head] for each in own]) if own[0].heads else "" for head in _HEADS]
        cells = (
            name,
            f"{own[0].parameters:,}",
            each_and_mean([each.top1 for each in own]),
            *heads,
            difference,
            word,
            f"{mean(each.seconds / each.epochs for each in own):.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


_HEADS = ("top1_class", "top1_distillation")


def write_arms(text: str, runs: Sequence[ArmRun], names: Sequence[str], page: Path) -> None:
    """A page: `text`, whose fields are those of a run, and the table."""
    facts = msgspec.structs.asdict(runs[0]) | {"learning_rate": f"{runs[0].learning_rate:g}"}
    write_page(text.format(**facts) + table(runs, names), page)
