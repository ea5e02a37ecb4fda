"""Pruning without training images: what is left of top-1, by what judges the units; before any fine-tuning.

    python benchmarks/data_free_pruning.py --test-data TEST [--data TRAIN] [--checkpoint FILE] [--limit N]
    python benchmarks/data_free_pruning.py --page-only

One network a run; the page is written from all that were measured. The default without images (Taylor on images
synthesized from the network, whose BatchNorm statistics are measured on them, too) stands beside the criteria that need
no images, with the statistics of the unpruned network, beside random choices with statistics measured on the same
synthesized images, and, with `--data`, beside Taylor on 1,024 training images. Random choices are made three times.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from shared import MEASURED, read_record, tell, write_page, write_record

from mobilevit_sdk.checkpoints.source import open_source
from mobilevit_sdk.data import open_dataset
from mobilevit_sdk.evaluation.accuracy import match_classes, measure_accuracy
from mobilevit_sdk.evaluation.measure import network_predictor
from mobilevit_sdk.pruning import PruningImages, Request, prune_network
from mobilevit_sdk.pruning.images import images_for
from mobilevit_sdk.spec import Strict

SHARES = (0.7, 0.5)  # of the multiply-accumulates
SEEDS = range(3)

# What the page calls it: the importance, and the images for it and for BatchNorm statistics.
METHODS = {
    "Taylor, synthesized images (the default)": ("taylor", "synthesized"),
    "random": ("random", None),
    "random, statistics from synthesized images": ("random", "synthesized"),
    "magnitude": ("magnitude", None),
    "bn-scale": ("bn-scale", None),
    "Taylor, training images (`--data`)": ("taylor", "training"),
}


class Row(Strict, frozen=True):
    """Top-1 of each seed, as a share of the test images; none where the share cannot be reached."""

    method: str
    keep: float
    top1: tuple[float, ...]
    seconds: float  # CPU time of one pruning


class Network(Strict, frozen=True):
    """What was measured of one network."""

    model: str
    checkpoint: str
    image_size: tuple[int, int]
    macs: int
    top1: float
    test_images: int
    synthesized: int
    synthesis_seconds: float  # CPU time; next to nothing where they were in the cache
    rows: tuple[Row, ...]


def measure(options: argparse.Namespace) -> Network:
    checkpoint = open_source(options.checkpoint)
    spec = checkpoint.spec
    test = match_classes(open_dataset(options.test_data, labeled=True), spec)
    test = test.sample(options.limit) if options.limit else test
    started = time.process_time()
    images = {None: None, "synthesized": images_for(checkpoint, Request(), None)}
    synthesis_seconds = time.process_time() - started
    if options.data:
        images["training"] = PruningImages(open_dataset(options.data, labeled=True), spec, Request().samples)
    top1 = measure_accuracy(network_predictor(checkpoint.model, spec), spec, test).top1
    tell(f"{spec.model}: unpruned {top1:.2%}")
    rows, macs = [], 0
    for keep in SHARES:
        for method, (importance, source) in METHODS.items():
            if source not in images:
                continue
            found, started = [], time.process_time()
            seconds = 0.0
            for seed in SEEDS if importance == "random" else [0]:
                request = Request(keep=keep, importance=importance, seed=seed)
                started = time.process_time()
                pruned = prune_network(checkpoint.model, spec, request, images[source])
                seconds, macs = time.process_time() - started, pruned.macs[0]
                found.append(measure_accuracy(network_predictor(pruned.model, pruned.spec), pruned.spec, test).top1)
            rows.append(Row(method, keep, tuple(found), round(seconds, 1)))
            tell(f"{spec.model}: {keep:g} of the MACs, {method}: {_top1(rows[-1])}")
    return Network(
        model=spec.model,
        checkpoint=Path(checkpoint.source).name,
        image_size=spec.preprocessing.image_size,
        macs=macs,
        top1=top1,
        test_images=len(test),
        synthesized=len(images["synthesized"] or ()),
        synthesis_seconds=round(synthesis_seconds, 1),
        rows=tuple(rows),
    )


def _top1(row: Row) -> str:
    return " / ".join(f"{each:.1%}" for each in row.top1)


_PAGE = """# Pruning without training images, measured

Written by `python benchmarks/data_free_pruning.py`, whose docstring says what is compared. Top-1 on test images, before
any fine-tuning; of random choices, three.
"""


def page(networks: list[Network]) -> str:
    parts = [_PAGE]
    for network in networks:
        height, width = network.image_size
        parts.append(
            f"\n## {network.model} ({network.checkpoint})\n\n{height}x{width} pixels, {network.macs / 1e6:.1f} million "
            f"multiply-accumulates, top-1 {network.top1:.2%} on {network.test_images:,} test images. "
            f"{network.synthesized} images were synthesized.\n\n"
        )
        parts.append("| judged by | " + " | ".join(f"{keep:g} of the MACs" for keep in SHARES) + " | CPU seconds |\n")
        parts.append("| --- | " + "---: | " * len(SHARES) + "---: |\n")
        for method in METHODS:
            rows = {row.keep: row for row in network.rows if row.method == method}
            if rows:
                cells = " | ".join(_top1(rows[keep]) for keep in SHARES)
                parts.append(f"| {method} | {cells} | {max(row.seconds for row in rows.values()):.0f} |\n")
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="by default the one that ships with the package")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--test-data", type=Path)
    parser.add_argument("--limit", type=int, help="only so many test images")
    parser.add_argument("--out", type=Path, default=Path("runs/data-free-pruning"), help="where records are kept")
    parser.add_argument("--page", type=Path, default=MEASURED / "data-free-pruning.md", help="the page to write")
    parser.add_argument("--page-only", action="store_true")
    options = parser.parse_args()
    if not options.page_only:
        network = measure(options)
        write_record(network, options.out / f"{network.model}.json")
    write_page(page([read_record(path, Network) for path in sorted(options.out.glob("*.json"))]), options.page)


if __name__ == "__main__":
    main()
