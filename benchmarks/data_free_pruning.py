"""Pruning without training images: what is left of top-1, by what judges the units; before any fine-tuning.

    python benchmarks/data_free_pruning.py --test-data TEST [--checkpoint FILE] [--limit N]
    python benchmarks/data_free_pruning.py --page-only

One network a run; the page is written from all that were measured, and an interrupted run resumes. The default without
images is the best, on images synthesized from the network, of Taylor, magnitude and one random choice, all with
BatchNorm statistics measured on those images. It stands beside the criteria alone with the statistics of the unpruned
network, and beside random choices with statistics measured on the same images. Random choices are made three times.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from shared import MEASURED, append_to_log, read_log, read_record, tell, write_page, write_record

from mobilevit_sdk.checkpoints.source import open_source
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.evaluation.measure import network_predictor
from mobilevit_sdk.pruning import Request, prune_network
from mobilevit_sdk.pruning.images import images_for
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.tasks import task_of

SHARES = (0.7, 0.5)  # of the multiply-accumulates
SEEDS = range(3)

# What the page calls it: the importance, and whether there are synthesized images for it and for BatchNorm statistics.
METHODS = {
    "the default": ("taylor", True),
    "random": ("random", False),
    "random, statistics from synthesized images": ("random", True),
    "magnitude": ("magnitude", False),
    "bn-scale": ("bn-scale", False),
}


class Row(Strict, frozen=True):
    """Top-1 of each seed, as a share of the test images."""

    method: str
    keep: float
    top1: tuple[float, ...]


class Network(Strict, frozen=True):
    """The unpruned network."""

    model: str
    checkpoint: str
    image_size: tuple[int, int]
    parameters: int
    top1: float
    test_images: int
    synthesized: int


def measure(options: argparse.Namespace) -> None:
    """Measure what the folder of records lacks of one network."""
    checkpoint = open_source(options.checkpoint)
    model, spec = checkpoint.model, checkpoint.spec
    test = task_of(spec).match(open_dataset(options.test_data, labeled=True))
    test = test.sample(options.limit) if options.limit else test
    synthesized = images_for(checkpoint, Request(), None)
    record, log = options.out / f"{spec.model}.json", options.out / f"{spec.model}.jsonl"
    if not record.exists():
        network = Network(
            model=spec.model,
            checkpoint=Path(checkpoint.source).name,
            image_size=spec.preprocessing.image_size,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            top1=task_of(spec).measure(network_predictor(model, spec), test).shares["top1"],
            test_images=len(test),
            synthesized=len(synthesized or ()),
        )
        write_record(network, record)
    known = {(row.method, row.keep) for row in read_log(log, Row)}
    for keep in SHARES:
        for method, (importance, has_images) in METHODS.items():
            if (method, keep) in known:
                continue
            found = []
            for seed in SEEDS if importance == "random" else [0]:
                data_free = importance == "taylor"  # the default, with all that it does
                request = Request(keep=keep, importance=importance, seed=seed, data_free=data_free)
                pruned = prune_network(model, spec, request, synthesized if has_images else None)
                predict = network_predictor(pruned.model, pruned.spec)
                found.append(task_of(pruned.spec).measure(predict, test).shares["top1"])
            append_to_log(row := Row(method, keep, tuple(found)), log)
            tell(f"{spec.model}: {keep:g} of the MACs, {method}: {_top1(row)}")


def _top1(row: Row | None) -> str:
    return " / ".join(f"{each:.1%}" for each in row.top1) if row else ""


_PAGE = """# Pruning without training images, measured

Written by `python benchmarks/data_free_pruning.py`, whose docstring says what is compared. Top-1 on test images, before
any fine-tuning; of random choices, three. [Pruning, measured](pruning-measured.md) has what training images are worth.
The default is Taylor's choice everywhere but for TinyViT at 0.5: there, Taylor alone led over a cliff, to 2.8%, and the
random choice won.
"""


def page(folder: Path) -> str:
    parts = [_PAGE]
    for record in sorted(folder.glob("*.json")):
        network = read_record(record, Network)
        rows = {(row.method, row.keep): row for row in read_log(record.with_suffix(".jsonl"), Row)}
        height, width = network.image_size
        parts.append(
            f"\n## {network.model} ({network.checkpoint})\n\n{height}x{width} pixels, {network.parameters / 1e6:.2f} "
            f"million parameters, top-1 {network.top1:.1%} on {network.test_images:,} test images; "
            f"{network.synthesized} synthesized images.\n\n"
        )
        parts.append("| units judged by | " + " | ".join(f"{keep:g} of the MACs" for keep in SHARES) + " |\n")
        parts.append("| --- |" + " ---: |" * len(SHARES) + "\n")
        for method in METHODS:
            cells = " | ".join(_top1(rows.get((method, keep))) for keep in SHARES)
            parts.append(f"| {method} | {cells} |\n")
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="by default the one that ships with the package")
    parser.add_argument("--test-data", type=Path)
    parser.add_argument("--limit", type=int, help="only so many test images")
    parser.add_argument("--out", type=Path, default=Path("runs/data-free-pruning"), help="where records are kept")
    parser.add_argument("--page", type=Path, default=MEASURED / "data-free-pruning.md", help="the page to write")
    parser.add_argument("--page-only", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.page_only:
        measure(options)
    write_page(page(options.out), options.page)


if __name__ == "__main__":
    main()
