"""What quantization costs and gains: top-1 of trained checkpoints, size and latency at published sizes.

    python benchmarks/quantization.py a.safetensors b.safetensors --calibration train.parquet --test-data test.parquet

Writes docs/measured/quantization-measured.md. Every checkpoint (the shipped one, where none is given) is converted to
every precision of every format, calibrated with images, and to `int8` without any. Measurements stay in `--out`, one
file per network, so an interrupted run resumes; `--force` measures again. Random weights (seed 0) give the sizes and
latencies at published sizes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from typing import TypeVar

from shared import MEASURED, bold_above, read_record, tell, write_page, write_record

from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.bench import BenchResult, Candidate, bench, candidates_of
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.checkpoints.source import open_source
from mobilevit_sdk.conversion.pipeline import convert
from mobilevit_sdk.errors import ToolchainError
from mobilevit_sdk.evaluation.measure import Measurement, measure
from mobilevit_sdk.formats.converter import converters
from mobilevit_sdk.formats.quantization import QUANTIZED
from mobilevit_sdk.models.registry import model_spec
from mobilevit_sdk.processes.child import run_in_child
from mobilevit_sdk.spec import Strict
from mobilevit_sdk.text import percent

T = TypeVar("T", bound=Strict)
# Points of top-1 that a precision may lose; with images that were synthesized, int8 may lose more.
BARS = {"int8": 0.5, "int8-dynamic": 0.2, "int8-weight": 0.2, "int4-weight": 1.5}
DATA_FREE_BAR = 1.5
SIZE_BAR, SIZED = 0.28, ("mobilevit_s", "tiny_vit_5m_224")
LATENCY_BAR, TIMED = 0.8, ("mobilevit_xxs", "tiny_vit_5m_224")
TIMED_FORMATS = ("executorch", "tflite")


class Row(Strict, frozen=True):
    """One artifact next to the float network, on the same images. Shares are 0 to 1."""

    precision: str
    format: str
    data_free: bool
    runtime: str
    share: float  # of the bytes of the format's float32 file
    images: int
    top1_float: float
    top1: float
    agreement: float  # on the images that judged it

    @property
    def lost(self) -> float:
        """Points of top-1."""
        return round(100 * (self.top1_float - self.top1), 6)  # so that what is just at the bar is not beyond it

    @property
    def bar(self) -> float:
        return DATA_FREE_BAR if self.data_free else BARS[self.precision]


class Trained(Strict, frozen=True):
    """All that was measured of one trained checkpoint."""

    model: str
    image_size: tuple[int, int]
    classes: int
    images: int
    top1: float
    rows: list[Row]


class Published(Strict, frozen=True):
    """A network at its published size with random weights: int8 next to float32."""

    model: str
    image_size: tuple[int, int]
    bytes: dict[str, tuple[int, int]]  # format -> float32, int8
    latency: BenchResult | None = None


def main() -> int:
    """Measure what is missing, then write the page; the exit code: 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", default=[None], help="the shipped one, where none is given")
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--test-data", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="only so many test images, spread evenly")
    parser.add_argument("--reference-limit", type=int, help="so many for coreml-reference, which takes its time")
    parser.add_argument("--rounds", type=int, default=20, help="of latency, of ten inferences each")
    parser.add_argument("--out", type=Path, default=Path("out/quantization"))
    parser.add_argument("--page", type=Path, default=MEASURED / "quantization-measured.md")
    parser.add_argument("--force", action="store_true", help="measure again what was measured")
    options = parser.parse_args()

    trained = []
    for source in options.checkpoints:
        checkpoint = open_source(source)
        folder = options.out / f"{checkpoint.spec.model}-{checkpoint.origin.sha256[:12]}"
        record = _load(folder / "trained.json", Trained, options.force)
        trained.append(
            record or write_record(measure_trained(source, checkpoint, folder, options), folder / "trained.json")
        )
    published = []
    for name in dict.fromkeys((*TIMED, *SIZED)):
        folder = options.out / "published"
        found = _load(folder / f"{name}.json", Published, options.force)
        published.append(
            found or write_record(measure_published(name, folder, options.rounds), folder / f"{name}.json")
        )
    write_page(page(trained, published), options.page)
    return 1 if missed(trained, published) else 0


def missed(trained: list[Trained], published: list[Published]) -> int:
    """How many bars were missed."""
    met = [row.lost <= row.bar for record in trained for row in record.rows]
    met += [share <= SIZE_BAR for each in published if each.model in SIZED for share in _shares(each).values()]
    met += [ratio < LATENCY_BAR for each in published for row in _ratios(each) if (ratio := row[3]) is not None]
    return met.count(False)


def measure_trained(source: str | None, checkpoint: Checkpoint, folder: Path, options: argparse.Namespace) -> Trained:
    """Convert with images and without, and evaluate each artifact and the checkpoint on the same test images."""

    def top1_of(target: str | None, limit: int | None) -> Measurement:
        return run_in_child(measure, target, None, options.test_data, limit, 64, threads=1)

    exact = {limit: top1_of(source, limit).accuracy for limit in {options.limit, options.reference_limit}}

    def row(pair: tuple[Artifact, Artifact]) -> Row:
        artifact, float32 = pair
        quantization = artifact.manifest.quantization
        assert quantization is not None
        assert quantization.judgment is not None
        slow = quantization.judgment.runtime == "coreml-reference"
        limit = (options.reference_limit if slow else None) or options.limit
        found = top1_of(str(artifact.path.parent), limit)
        measured = Row(
            precision=artifact.manifest.precision,
            format=artifact.manifest.format,
            data_free=quantization.data_free,
            runtime=found.runtime,
            share=artifact.manifest.bytes / float32.manifest.bytes,
            images=found.accuracy.images,
            top1_float=exact[limit].top1,
            top1=found.accuracy.top1,
            agreement=quantization.judgment.agreement,
        )
        tell(f"{checkpoint.spec.model}: {artifact.path.parent}, {measured.lost:+.2f} points")
        return measured

    pairs = _converted(checkpoint, folder, options.calibration)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(row, pairs))
    spec, whole = checkpoint.spec, exact[options.limit]
    return Trained(spec.model, spec.preprocessing.image_size, spec.num_classes, whole.images, whole.top1, rows)


def _converted(checkpoint: Checkpoint, folder: Path, calibration: Path) -> list[tuple[Artifact, Artifact]]:
    """Every integer artifact with the float32 one of its format."""
    made = _convert(checkpoint, folder, ["fp32", *QUANTIZED], calibration)
    made += _convert(checkpoint, folder / "data-free", ["int8"], None)
    float32 = {each.manifest.format: each for each in made if each.manifest.precision == "fp32"}
    tell(f"{checkpoint.spec.model}: converted")
    return [(each, float32[each.manifest.format]) for each in made if each.manifest.quantization]


def _convert(
    checkpoint: Checkpoint,
    out: Path,
    precisions: list[str],
    calibration: Path | None = None,
    formats: Sequence[str] = (),
) -> list[Artifact]:
    """Rejected artifacts too. Raises ToolchainError for what fails."""
    made = convert(checkpoint, out=out, formats=formats, precisions=precisions, calibration=calibration, check=False)
    if made.failures:
        raise ToolchainError("; ".join(f"{each.format} {each.precision}: {each.error}" for each in made.failures))
    return made.artifacts


def measure_published(name: str, folder: Path, rounds: int) -> Published:
    """Sizes in every format, and latencies in interleaved rounds where they have a bar."""
    checkpoint = random_checkpoint(model_spec(name), seed=0)
    formats = list(converters()) if name in SIZED else list(TIMED_FORMATS)
    made: dict[str, list[Artifact]] = {each: [] for each in formats}
    for artifact in _convert(checkpoint, folder, ["fp32", "int8"], formats=formats):
        made[artifact.manifest.format].append(artifact)
    latency = None
    if name in TIMED:
        pairs = {each: [_fastest(artifact) for artifact in made[each]] for each in TIMED_FORMATS}
        held_against = {id(candidate): pair[0] for pair in pairs.values() for candidate in pair}
        latency = bench(
            [candidate for pair in pairs.values() for candidate in pair],
            threads=(1, 2),
            against=lambda candidate: held_against[id(candidate)],
            rounds=rounds,
        )
    sizes = {each: (float32.manifest.bytes, small.manifest.bytes) for each, (float32, small) in made.items()}
    tell(f"{name}: measured")
    return Published(name, checkpoint.spec.preprocessing.image_size, sizes, latency)


def _fastest(artifact: Artifact) -> Candidate:
    """The artifact on the first runtime of its format: litert-cpu, executorch."""
    return candidates_of(artifact)[0]


def _load(file: Path, kind: type[T], force: bool) -> T | None:
    return read_record(file, kind) if file.exists() and not force else None


_HEAD = """# Quantization, measured

Written by `python benchmarks/quantization.py`. A bar is what the project requires of itself; **bold**: missed.

## Accuracy

Top-1 of the artifact and of the float network in PyTorch, on the same test images, which neither calibrated nor judged.
*Keeps its class* is the share of up to 256 other images whose class is still the float network's. Where 1% of the
images change their class, half of them for the better, chance alone moves top-1 by 0.14 points on 5,000 images and by
0.32 on 1,000. *Size* is relative to the float32 file of the same format. *No images*: calibrated with images
synthesized from the network itself.
"""


_BY_HAND = """## Core AI and ONNX: mobilevit_xxs, 64x64, 10 classes

The shipped model, calibrated with images as above and measured apart from the tables: every image of the file beside
the same image in PyTorch. Apple's runtime on Linux takes about half a second for an image in `int8`, which is why it
answered 3,800 of the 5,000 test images, shuffled. *95%* is the interval of the points lost, from the images on which
exactly one of the two is right: 25 for PyTorch and 11 for Core AI.

| precision | format | images | size | float | top-1 | points lost | 95% | bar | keeps its class |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| int8 | coreai | 3,800 | 0.310 | 85.79% | 85.42% | +0.37 | 0.06 to 0.68 | 0.5 | 98.8% |
| int8 | onnx | 5,000 | 0.319 | 85.50% | 85.26% | +0.24 | | 0.5 | 99.2% |
| int8-weight | onnx | 5,000 | 0.285 | 85.50% | 85.38% | +0.12 | | 0.2 | 100.0% |

The last column of Core AI is over the 3,800 images, those of ONNX over 256 others. On an x86 with AVX-512 and VNNI,
onnxruntime 1.31.1 takes 0.91 ms for `fp32`, 1.14 for `int8` and 1.87 for `int8-weight`, whose weights it unpacks anew
for every image: so small a network is smaller in integers and not faster.

## A small ViT: 32x32, 10 classes

Six blocks, dim 64, patches of 8 pixels: the base of `benchmarks/memory_cells.py`, 4 epochs of 45,000 images. So short
a training leaves it at 51.6%: this says that ViT's blocks survive integers, not how a good ViT fares. Converted by
`mobilevit convert` with 500 training images, judged by `mobilevit eval`, apart from the tables. Chance moves the
difference by some tenths, for Core ML's reference runtime by more. *Keeps its class* is over 167 other images.

| precision | format | images | file | float | top-1 | points lost | bar | keeps its class |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| int8 | coreml | 1,000 | 408 kB | 52.80% | 53.60% | -0.80 | 0.5 | 98.8% |
| int8 | executorch | 5,000 | 325 kB | 51.58% | 51.70% | -0.12 | 0.5 | 99.4% |
| int8 | onnx | 5,000 | 320 kB | 51.58% | 51.78% | -0.20 | 0.5 | 100.0% |
| int8 | tflite | 5,000 | 345 kB | 51.58% | 51.66% | -0.08 | 0.5 | 98.8% |
"""


def page(trained: list[Trained], published: list[Published]) -> str:
    """docs/measured/quantization-measured.md, from the records alone."""
    sections = [_HEAD, *(_section(record) for record in trained), _BY_HAND]
    sections += [_sizes(published)] if published else []
    sections += [_latencies(each) for each in published if each.latency]
    return "\n".join(sections)


def _section(record: Trained) -> str:
    height, width = record.image_size
    lines = [
        f"### {record.model}, {width}x{height}, {record.classes} classes",
        "",
        f"In floating point {record.top1:.2%} of {record.images:,} images.",
        "",
        "| precision | format | images | size | top-1 | points lost | bar | keeps its class |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in sorted(record.rows, key=lambda row: (list(BARS).index(row.precision), row.data_free, row.format)):
        lost = bold_above(row.lost, row.bar, "+.2f")
        precision = f"{row.precision}, no images" if row.data_free else row.precision
        lines.append(
            f"| {precision} | {row.format} | {row.images:,} | {row.share:.3f} | {row.top1:.2%} | {lost} | {row.bar:g} "
            f"| {percent(row.agreement)} |"
        )
    return "\n".join(lines) + "\n"


def _sizes(published: list[Published]) -> str:
    lines = [
        "## Size",
        "",
        f"`int8` over `fp32` at the published size; the bar is {SIZE_BAR} for {' and '.join(SIZED)}. The smaller a",
        "network is, the more operators, scales and float weights count.",
        "",
        "| network | format | fp32 | int8 | int8 over fp32 |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for each in published:
        for name, share in _shares(each).items():
            float32, small = each.bytes[name]
            cell = bold_above(share, SIZE_BAR if each.model in SIZED else inf, ".3f")
            lines.append(f"| {_title(each)} | {name} | {float32 / 1e6:.2f} MB | {small / 1e6:.2f} MB | {cell} |")
    return "\n".join(lines) + "\n"


def _latencies(each: Published) -> str:
    assert each.latency is not None
    lines = [
        f"## Latency of {_title(each)}",
        "",
        f"Medians of {each.latency.rounds} interleaved rounds of {each.latency.inferences} inferences of one image; the"
        f" bar is below {LATENCY_BAR}. {each.latency.machine.describe()}.",
        "",
        "| runtime | threads | fp32 | int8 | int8 over fp32 |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for runtime, threads, (float32, small), ratio in _ratios(each):
        cell = "not measured" if ratio is None else f"{ratio:.2f}" if ratio < LATENCY_BAR else f"**{ratio:.2f}**"
        lines.append(f"| {runtime} | {threads} | {float32} | {small} | {cell} |")
    return "\n".join(lines) + "\n"


def _ratios(each: Published) -> Iterator[tuple[str, int, tuple[str, str], float | None]]:
    """Runtime, threads, both medians as text, and their ratio."""
    results = each.latency.results if each.latency else []
    for float32, small in zip(results[::2], results[1::2], strict=True):
        medians = [row.reason or "" if row.median_ms is None else f"{row.median_ms:.2f} ms" for row in (float32, small)]
        yield float32.runtime, float32.threads, (medians[0], medians[1]), small.ratio


def _shares(each: Published) -> dict[str, float]:
    return {name: small / float32 for name, (float32, small) in each.bytes.items()}


def _title(each: Published) -> str:
    return f"{each.model} at {each.image_size[0]}"


if __name__ == "__main__":
    sys.exit(main())
