"""The records of benchmarks/pruning.py, and the page that is written from them alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared import bold_above, read_record, write_page

from mobilevit_sdk.pruning import Kept
from mobilevit_sdk.pruning.phone_files import Latencies
from mobilevit_sdk.pruning.plots import plot_frontier, plot_kept
from mobilevit_sdk.spec import Strict

OURS, THEIRS = "taylor", "torch-pruning"
METHODS = {
    OURS: "Taylor, ours",
    THEIRS: "Taylor, Torch-Pruning",
    "magnitude": "magnitude, ours",
    "random": "random, ours",
}
LATENCY = 0.65  # the most that a file of half of the multiply-accumulates may take of the unpruned one's time
LOST = {0.7: 1.0, 0.5: 2.5}  # the most points of top-1 that may be lost after fine-tuning, by the share that is kept


class Unpruned(Strict, frozen=True):
    """The network that everything is compared with; `top1` is a share of the test images."""

    model: str
    checkpoint: str
    image_size: tuple[int, int]
    macs: int
    parameters: int
    top1: float
    test_images: int
    samples: int


class Row(Strict, frozen=True):
    """What one method left: shares of what the unpruned network has, top-1 before fine-tuning, CPU seconds it took.

    `as_it_comes` is top-1 with the BatchNorm statistics that Torch-Pruning leaves; `failure` is why there is nothing.
    """

    method: str
    keep: float
    macs: float | None = None
    parameters: float | None = None
    top1: float | None = None
    seconds: float | None = None
    as_it_comes: float | None = None
    kept: tuple[Kept, ...] = ()
    failure: str | None = None


class Finetuned(Strict, frozen=True):
    """Top-1 after so many epochs of so many images."""

    epochs: int
    images: int
    top1: float


@dataclass(frozen=True)
class Record:
    """One network's folder, read."""

    unpruned: Unpruned
    rows: list[Row]
    finetuned: dict[str, Finetuned]  # <method>-<share>
    latencies: dict[str, Latencies]  # <share>


def read_folder(folder: Path) -> Record:
    def all_of(pattern: str, kind: type) -> dict[str, object]:
        paths = sorted(folder.glob(pattern))
        return {path.stem: read_record(path, kind) for path in paths}

    rows = [row for method in METHODS for row in all_of(f"{method}-*.json", Row).values()]
    return Record(
        read_record(folder / "unpruned.json", Unpruned),
        sorted(rows, key=lambda row: -row.keep),
        {stem.removeprefix("finetuned-"): each for stem, each in all_of("finetuned-*.json", Finetuned).items()},
        {stem.removeprefix("latency-"): each for stem, each in all_of("latency-*.json", Latencies).items()},
    )


def write_pruning(folder: Path, page: Path) -> None:
    """The page and its pictures, of all networks in the folder."""
    records = [record for path in sorted(folder.glob("*/unpruned.json")) if (record := read_folder(path.parent)).rows]
    bars = "\n".join(line for record in records for line in _bars(record))
    sections = "\n".join(_section(record, page) for record in records)
    write_page(_PAGE.format(bars=bars, sections=sections), page)


_PAGE = """# Pruning, measured

Written by `python benchmarks/pruning.py`, whose docstring says what is compared and how. Top-1 is on the test images,
*before* any fine-tuning and *after* the same fine-tuning for all methods, taught by the unpruned network.

## Bars

Bold: missed.

| network | MACs kept | | bar | measured |
| --- | ---: | --- | ---: | ---: |
{bars}

{sections}"""


def _bars(record: Record) -> Iterator[str]:
    unpruned = record.unpruned
    for row in record.rows:
        if row.method != OURS or row.top1 is None:
            continue
        start, keep = f"| {unpruned.model} | {row.keep:g} |", f"{row.keep:g}"
        finetuned, latencies = record.finetuned.get(f"{OURS}-{keep}"), record.latencies.get(keep)
        if finetuned and row.keep in LOST:
            lost = 100 * (unpruned.top1 - finetuned.top1)
            most = LOST[row.keep]
            yield f"{start} points lost after fine-tuning | at most {most} | {bold_above(lost, most)} |"
        for other in record.rows:
            if other.keep == row.keep and other.method != OURS:
                found = "it has none" if other.top1 is None else bold_above(100 * (other.top1 - row.top1), 0)
                yield f"{start} before it, points ahead of ours: {METHODS[other.method]} | below 0 | {found} |"
        for each in latencies.rows if latencies and row.keep == min(LOST) else ():
            if each.ratio is not None:
                what = f"latency over unpruned, {each.runtime}, threads: {each.threads}"
                yield f"{start} {what} | at most {LATENCY} | {bold_above(each.ratio, LATENCY)} |"


def _section(record: Record, page: Path) -> str:
    """A network's tables and pictures."""
    unpruned = record.unpruned
    lines = [
        f"## {unpruned.model} ({unpruned.checkpoint})",
        "",
        f"{unpruned.image_size[0]}x{unpruned.image_size[1]} pixels, {unpruned.macs / 1e6:.1f} million "
        f"multiply-accumulates, {unpruned.parameters / 1e6:.2f} million parameters, top-1 {unpruned.top1:.2%} on "
        f"{unpruned.test_images:,} test images. Judged by {unpruned.samples:,} training images.{_tuning(record)}",
        "",
        "| asked for | method | MACs left | parameters left | top-1 before | after | lost after | CPU seconds |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_row(record, row) for row in record.rows),
        "",
    ]
    if record.latencies:
        lines += [
            "| MACs kept | runtime | threads | unpruned | pruned | ratio | size | pruned |",
            "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            *(line for keep, each in sorted(record.latencies.items(), reverse=True) for line in _latency(keep, each)),
            "",
            f"Interleaved rounds on {next(iter(record.latencies.values())).machine}.",
            "",
        ]
    stem = f"{page.stem}-{unpruned.model}"
    points = {
        METHODS[method]: [
            (1.0, unpruned.top1),
            *((row.macs, row.top1) for row in record.rows if row.method == method and row.macs and row.top1),
        ]
        for method in dict.fromkeys(row.method for row in record.rows)
    }
    plot_frontier(points, page.with_name(f"{stem}.png"), f"{unpruned.model}, before fine-tuning")
    lines.append(f"![top-1 over MACs]({stem}.png)")
    for row in record.rows:
        if row.method == OURS and row.kept:
            name = f"{stem}-kept-{row.keep:g}.png"
            plot_kept(row.kept, page.with_name(name), f"{unpruned.model}: what is left with {row.keep:g} of the MACs")
            lines.append(f"![what is left]({name})")
    return "\n".join([*lines, ""])


def _tuning(record: Record) -> str:
    counts = {(each.epochs, each.images) for each in record.finetuned.values()}
    return "".join(f" Fine-tuned for {n} epoch{'s' if n > 1 else ''} of {images:,} images." for n, images in counts)


def _row(record: Record, row: Row) -> str:
    start = f"| {row.keep:g} | {METHODS[row.method]} |"
    if row.macs is None or row.top1 is None:
        return f"{start} {row.failure} | | | | | |"
    finetuned = record.finetuned.get(f"{row.method}-{row.keep:g}")
    came = f" (as it comes {row.as_it_comes:.2%})" if row.as_it_comes is not None else ""
    after = f"{finetuned.top1:.2%} | {100 * (record.unpruned.top1 - finetuned.top1):.2f}" if finetuned else "|"
    return f"{start} {row.macs:.3f} | {row.parameters:.3f} | {row.top1:.2%}{came} | {after} | {row.seconds or 0:.0f} |"


def _latency(keep: str, latencies: Latencies) -> Iterator[str]:
    for row in latencies.rows:
        start = f"| {keep} | {row.runtime} | {row.threads} |"
        one, other = row.bytes
        if row.median_ms is None or row.ratio is None:
            yield f"{start} {row.reason} | | | {one / 1e6:.2f} MB | {other / 1e6:.2f} MB |"
        else:
            before, after = row.median_ms
            times = f"{before:.2f} ms | {after:.2f} ms | {row.ratio:.2f}"
            yield f"{start} {times} | {one / 1e6:.2f} MB | {other / 1e6:.2f} MB |"
