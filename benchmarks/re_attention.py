"""DeepViT's re-attention next to plain attention: how alike the maps of adjacent blocks are, and top-1.

    python benchmarks/re_attention.py --train-data TRAIN --test-data TEST [--images N] [--epochs E] [--depths 8,16,24]
    python benchmarks/re_attention.py --page-only

Both arms have the same shape, images, augmentation, steps and learning rate, for each depth and seed; nothing is tuned
for either. Similarity is the paper's (arXiv 2103.11886, section 3): the cosine of what token t gives to all tokens in
one block and in the next, averaged over heads, tokens and images. Trainings stay in `--out` and are resumed. Writes
docs/measured/re-attention.md and its plot.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from re_attention_page import Run, Statistics, write_re_attention
from shared import MEASURED, read_record, tell, write_record
from small_vit import RECIPE, SIZE, Teller, spec_of
from torch import Tensor, nn

from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.data import ImageDataset, crop_image, open_dataset, to_model_input
from mobilevit_sdk.evaluation.attention_distance import attention_maps
from mobilevit_sdk.evaluation.measure import network_predictor
from mobilevit_sdk.layers import Attention
from mobilevit_sdk.models.deepvit import DeepViTConfig
from mobilevit_sdk.models.registry import build_model
from mobilevit_sdk.models.vit import ViTConfig
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.tasks import task_of
from mobilevit_sdk.training import Recipe
from mobilevit_sdk.training.run import train_network

ARMS = ("plain", "re-attention")


def spec_for(arm: str, depth: int, options: argparse.Namespace, labels: tuple[str, ...] | None) -> ModelSpec:
    """Both arms have the same widths; re-attention adds heads * (heads + 3) parameters a block."""
    shape: dict[str, Any] = {
        "dim": options.dim,
        "num_heads": options.heads,
        "depth": depth,
        "mlp_ratio": 3,
        "patch_size": options.patch,
        "image_size": (SIZE, SIZE),
        "num_classes": len(labels or ()),
    }
    if arm == "plain":
        return spec_of(ViTConfig(**shape), labels)
    return spec_of(DeepViTConfig(**shape), labels, "deepvit")


@torch.no_grad()
def maps_of(network: nn.Module, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Of each block, the maps [B, heads, N, N] that softmax gives, and those that weigh the values.

    They are the same without re-attention.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, Attention)]
    softmax = attention_maps(network, x)
    used = [each if layer.mixing is None else layer.mixing(each) for layer, each in zip(layers, softmax, strict=True)]
    return softmax, used


def similarity(maps: Sequence[Tensor]) -> list[float]:
    """Of each block's maps [B, heads, query, key] and the next block's: the mean cosine of their columns."""
    return [F.cosine_similarity(one, following, dim=2).mean().item() for one, following in pairwise(maps)]


def statistics_of(network: nn.Module, x: Tensor) -> Statistics:
    """Similarity on the images `x`, and what rows of the maps that weigh the values sum to."""
    softmax, used = maps_of(network, x)
    sums = torch.stack([each.sum(3) for each in used])
    return Statistics(
        softmax=similarity(softmax),
        used=similarity(used),
        row_sum=sums.mean().item(),
        row_sum_deviation=sums.std().item(),
        negative=mean((each < 0).float().mean().item() for each in used),
    )


def measure(options: argparse.Namespace) -> None:
    """Train and measure what the folder lacks; all depths and arms of one seed before the next."""
    data = open_dataset(options.train_data, labeled=True)
    rest = len(data) - options.validation
    train, validation = data.at(range(min(options.images, rest))), data.at(range(rest, len(data)))
    test = open_dataset(options.test_data, labeled=True)
    how = {"epochs": options.epochs, "batch_size": options.batch_size, "learning_rate": options.learning_rate}
    recipe = msgspec.structs.replace(RECIPE, **how)
    for seed in range(options.seeds):
        for depth in options.depths:
            for arm in ARMS:
                path = options.out / f"{arm}-{depth}-{seed}.json"
                if not path.exists():
                    spec = spec_for(arm, depth, options, data.class_names)
                    one = msgspec.structs.replace(recipe, seed=seed)
                    run = write_record(_run(arm, spec, one, train, validation, test, path.with_suffix("")), path)
                    tell(f"{path.stem}: top-1 {run.top1:.2%}, similarity {mean(run.trained.used):.3f}")


def _run(
    arm: str,
    spec: ModelSpec,
    recipe: Recipe,
    train: ImageDataset,
    validation: ImageDataset,
    test: ImageDataset,
    out: Path,
) -> Run:
    trained = train_network(
        spec, None, recipe, train, validation, out, teacher=None, device="cpu", progress=Teller(out.name)
    )
    network = load_checkpoint(trained.path).model  # of the last epoch: none is chosen
    test = task_of(spec).match(test)
    shown = test.sample(256)
    pixels = np.stack([crop_image(shown.image(row), spec.preprocessing) for row in range(len(shown))])
    x = to_model_input(torch.from_numpy(pixels), spec.preprocessing)
    torch.manual_seed(recipe.seed)
    untrained = build_model(spec).train()  # BatchNorm over maps knows no statistics yet: those of these images
    config = spec.config
    return Run(
        arm=arm,
        depth=config["depth"],
        seed=recipe.seed,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        shape=f"dim {config['dim']}, {config['num_heads']} heads, patches of {config['patch_size']} pixels",
        tokens=(SIZE // config["patch_size"]) ** 2 + 1,
        train_images=len(train),
        epochs=recipe.epochs,
        steps=recipe.epochs * -(-len(train) // recipe.batch_size),
        learning_rate=recipe.learning_rate,
        test_images=len(test),
        top1=task_of(spec).measure(network_predictor(network, spec), test).top1,
        loss=trained.result.loss,
        untrained=statistics_of(untrained, x),
        trained=statistics_of(network, x),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train-data", type=Path)
    parser.add_argument("--test-data", type=Path)
    parser.add_argument("--images", type=int, default=20_000, help="so many training images, the first ones")
    parser.add_argument("--validation", type=int, default=500, help="so many others, that only show how it goes")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--depths", type=lambda text: [int(each) for each in text.split(",")], default=[8, 16, 24])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--dim", type=int, default=48)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/re-attention"), help="where trainings are kept")
    parser.add_argument("--page", type=Path, default=MEASURED / "re-attention.md", help="the page to write")
    parser.add_argument("--page-only", action="store_true")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.page_only:
        if not options.train_data or not options.test_data:
            parser.error("give --train-data and --test-data, or --page-only")
        torch.set_num_threads(1)  # the same bits on every machine of a kind, and a resumed training goes on as begun
        measure(options)
    write_re_attention([read_record(each, Run) for each in sorted(options.out.glob("*.json"))], options.page)


if __name__ == "__main__":
    main()
