"""NaViT, trained packed at many sizes, next to networks trained at one: top-1 at sizes that those never saw.

    python benchmarks/any_size.py --train-data TRAIN --test-data TEST [--images N] [--epochs E] [--seeds S]
    python benchmarks/any_size.py --page-only

All have the same blocks, widths, images, augmentation, learning rate and seeds. A ViT, and a NaViT that is trained the
same way, see every image at 32 pixels; the packed NaViT sees each at a side of its own and without the patches that it
drops, for so many epochs that all compute about as many tokens: "equal compute". All are judged at every size on the
same test images, enlarged or shrunk as the size asks; the ViT's positions are interpolated. Nothing is chosen by these.
Trainings stay in `--out` and are resumed. Writes docs/measured/any-size.md and its plot.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
from any_size_page import Run, write_any_size
from shared import MEASURED, read_record, tell, write_record
from small_vit import PREPROCESSING, RECIPE, SIZE, Teller, spec_of

from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import ImageDataset, open_dataset
from mobilevit_sdk.evaluation.measure import network_predictor
from mobilevit_sdk.models.navit import NaViTConfig
from mobilevit_sdk.models.resize import resize_network
from mobilevit_sdk.models.vit import ViTConfig
from mobilevit_sdk.recipe import Packing, Recipe
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.training.run import train_network

ARMS = ("ViT at 32", "NaViT at 32", "NaViT packed")
SIZES = (16, 20, 24, 28, 32, 40, 48)
SIDES = (16, 40)  # pixels, of NaViT's training
PATCH = 4


def spec_for(arm: str, options: argparse.Namespace, labels: tuple[str, ...] | None) -> ModelSpec:
    """The same blocks; what else a NaViT has (attention pooling, positions, norms of queries and keys) is its own."""
    shape = {
        "dim": options.dim,
        "num_heads": options.heads,
        "depth": options.depth,
        "patch_size": PATCH,
        "num_classes": len(labels or ()),
    }
    if arm == ARMS[0]:
        return spec_of(ViTConfig(**shape, image_size=(SIZE, SIZE)), labels)
    config = NaViTConfig(**shape, position_length=16)
    return ModelSpec(
        model="navit_tiny_patch16",
        family="navit",
        config=msgspec.to_builtins(config),
        preprocessing=PREPROCESSING,
        labels=labels,
    )


def recipe_for(arm: str, options: argparse.Namespace, seed: int) -> tuple[Recipe, float]:
    """The recipe, and how many tokens it computes for an image of an epoch on average, the class token left out."""
    recipe = msgspec.structs.replace(
        RECIPE, batch_size=options.batch_size, learning_rate=options.learning_rate, seed=seed, epochs=options.epochs
    )
    own = (SIZE / PATCH) ** 2
    if arm != ARMS[2]:
        return recipe, own
    low, high = (side / PATCH for side in SIDES)
    mean = (low * low + low * high + high * high) / 3  # of the square of a side drawn evenly
    tokens = mean * (1 - options.drop)
    packing = Packing(sides=SIDES, drop=options.drop, sequence=256)
    epochs = round(options.epochs * own / tokens)
    return msgspec.structs.replace(recipe, packing=packing, epochs=epochs), tokens


def measure(options: argparse.Namespace) -> None:
    """Train and measure what the folder lacks; all arms of one seed before the next."""
    data = open_dataset(options.train_data, labeled=True)
    rest = len(data) - options.validation
    train, validation = data.at(range(min(options.images, rest))), data.at(range(rest, len(data)))
    test = open_dataset(options.test_data, labeled=True)
    for seed in range(options.seeds):
        for number, arm in enumerate(ARMS):
            path = options.out / f"{number}-{seed}.json"
            if not path.exists():
                run = write_record(_run(arm, seed, options, train, validation, test, path.with_suffix("")), path)
                tell(f"{arm}, seed {seed}: " + ", ".join(f"{s}: {t:.1%}" for s, t in zip(SIZES, run.top1, strict=True)))


def _run(
    arm: str,
    seed: int,
    options: argparse.Namespace,
    train: ImageDataset,
    validation: ImageDataset,
    test: ImageDataset,
    out: Path,
) -> Run:
    spec = spec_for(arm, options, train.class_names)
    recipe, tokens = recipe_for(arm, options, seed)
    trained = train_network(
        spec, None, recipe, train, validation, out, teacher=None, device="cpu", progress=Teller(f"{arm}, seed {seed}")
    )
    checkpoint = load_checkpoint(trained.path)  # of the last epoch: none is chosen
    top1 = []
    for size in SIZES:
        network, at_size = resize_network(checkpoint.model, checkpoint.spec, size, size)
        top1.append(task_of(at_size).measure(network_predictor(network, at_size), test).top1)
    return Run(
        arm=arm,
        seed=seed,
        parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        shape=f"dim {options.dim}, {options.depth} blocks",
        train_images=len(train),
        test_images=len(test),
        epochs=recipe.epochs,
        tokens=tokens * recipe.epochs * len(train),
        drop=recipe.packing.drop if recipe.packing else 0.0,
        learning_rate=recipe.learning_rate,
        sizes=list(SIZES),
        top1=top1,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train-data", type=Path)
    parser.add_argument("--test-data", type=Path)
    parser.add_argument("--images", type=int, default=20_000, help="so many training images, the first ones")
    parser.add_argument("--validation", type=int, default=500, help="so many others, that only show how it goes")
    parser.add_argument("--epochs", type=int, default=10, help="of the ViT; NaViT has as many tokens")
    parser.add_argument("--drop", type=float, default=0.25, help="share of the patches that NaViT drops in training")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("runs/any-size"), help="where trainings are kept")
    parser.add_argument("--page", type=Path, default=MEASURED / "any-size.md", help="the page to write")
    parser.add_argument("--page-only", action="store_true")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.page_only:
        measure(options)
    runs = [read_record(path, Run) for path in sorted(options.out.glob("*.json"))]
    write_any_size(runs, options.page)


if __name__ == "__main__":
    main()
