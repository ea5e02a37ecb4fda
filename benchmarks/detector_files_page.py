"""The page docs/measured/detector-files.md, from the measurements of detector_files.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shared import bold_above, write_page

from mobilevit_sdk.bench.rounds import BenchResult, Row
from mobilevit_sdk.spec import Strict


class Conversion(Strict, frozen=True):
    """What it took to make a file; without numbers, `error` says why there is none."""

    name: str
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    error: str | None = None


class Proof(Strict, frozen=True):
    """What one of our files is, and how near its answers are to PyTorch's on one runtime."""

    file: str
    runtime: str
    status: str
    delegates: int | None
    outside: dict[str, int]
    max_rank: int
    operators: int
    bytes: int
    scores_db: float | None
    boxes_db: float | None
    max_pixels: float | None
    reason: str


class Files(Strict, frozen=True):
    """Our files."""

    conversions: list[Conversion]
    proofs: list[Proof]


class Latency(Strict, frozen=True):
    """Candidates that took turns at one image size, in pixels; `macs` are the network's multiply-accumulates."""

    image_size: tuple[int, int]
    macs: int
    found: BenchResult


PTE_BAR, TFLITE_BAR, SECONDS_BAR = 0.9, 1.0, 0.3

_PAGE = """# DETR's phone files, measured

Written by `python benchmarks/detector_files.py`. DETR-R50 at its published widths, with random, non-degenerate weights
under which queries differ (seed 0); 100 queries, 91 classes. *Stock* is the toolchain's own route without this SDK,
once for transformers' `DetrForObjectDetection` with the same weights, and once for the reference form of this SDK as it
is trained: no padding mask, BatchNorm that every exporter folds. Neither normalizes pixels inside the file; ours do.

## Files at 320x320

One row for each runtime of a file, over 27 images, edge cases among them: the worst image of each output, and the
largest difference of any box in pixels of the input.

| file | runtime | | delegates | outside | max rank | operators | MB | scores | boxes | pixels |
| --- | --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |
{proofs}
{reasons}
## Bars

Ratios of medians from the same rounds, or of seconds; lower is better. Bold: missed.

| | over | at most | ratio |
| --- | --- | ---: | ---: |
{bars}

## Latency at 320x320

One thread, {rounds} rounds of {inferences} inferences; all candidates are alive at once and take turns in random order.

| | median | p90 | over PyTorch | of roof |
| --- | ---: | ---: | ---: | ---: |
{latency}

## Other sizes

Sizes need not be square: `--image-size 480x640`. One thread, float32.

| height x width | 1e9 multiply-accumulates | | median | over PyTorch | of roof |
| --- | ---: | --- | ---: | ---: | ---: |
{sizes}

## Conversion

From the checkpoint to the file, each in a process of its own, one at a time.

| | seconds | peak memory |
| --- | ---: | ---: |
{conversions}

Machine: {machine}. Roof: {roof:.0f} (1e9 multiply-accumulates a second, one thread).
"""


def write_detector_page(
    files: Files, stock: list[Conversion], latency: Latency, sizes: list[Latency], path: Path
) -> None:
    """Write the page."""
    text = _PAGE.format(
        proofs="\n".join(map(_proof, files.proofs)),
        reasons=_reasons(files.proofs),
        bars="\n".join(_bars(files, stock, latency)),
        rounds=latency.found.rounds,
        inferences=latency.found.inferences,
        latency="\n".join(map(_latency, latency.found.results)),
        sizes="\n".join(line for each in sizes for line in _size(each)),
        conversions="\n".join(map(_conversion, [*files.conversions, *stock])),
        machine=latency.found.machine.describe(),
        roof=latency.found.sgemm_gmacs_per_second[1],
    )
    write_page(text, path)


def _proof(row: Proof) -> str:
    outside = ", ".join(f"{count} {name}" for name, count in row.outside.items()) or "0"
    numbers = [
        "" if value is None else f"{value:.{digits}f}{unit}"
        for value, digits, unit in ((row.scores_db, 0, " dB"), (row.boxes_db, 0, " dB"), (row.max_pixels, 3, ""))
    ]
    return (
        f"| `{row.file}` | {row.runtime} | {row.status} | {row.delegates} | {outside} | {row.max_rank} | "
        f"{row.operators} | {row.bytes / 1e6:.1f} | {' | '.join(numbers)} |"
    )


def _reasons(proofs: list[Proof]) -> str:
    return "".join(f"\n`{row.file}` on {row.runtime}: {row.reason}.\n" for row in proofs if row.reason)


def _bars(files: Files, stock: list[Conversion], latency: Latency) -> Iterator[str]:
    rows = {_name(row): row.median_ms for row in latency.found.results}
    for suffix, route, bar in ((".pte", "executorch-stock", PTE_BAR), (".tflite", "tflite-stock", TFLITE_BAR)):
        for other in (f"transformers, {route}", f"reference form, {route}"):
            ours, theirs = rows.get(f"{suffix} fp32"), rows.get(other)
            ratio = bold_above(ours / theirs, bar) if ours and theirs else "does not run"
            yield f"| {suffix}, latency | {other} | {bar} | {ratio} |"
    seconds = {each.name: each.seconds for each in [*files.conversions, *stock]}
    for other in ("transformers, executorch-stock", "reference form, executorch-stock"):
        ours, theirs = seconds[".pte fp32"], seconds[other]
        ratio = bold_above(ours / theirs, SECONDS_BAR) if ours and theirs else "does not convert"
        yield f"| .pte, seconds to convert | {other} | {SECONDS_BAR} | {ratio} |"


def _name(row: Row) -> str:
    """What a candidate is called here."""
    if row.runtime in ("executorch-stock", "tflite-stock"):
        return f"reference form, {row.runtime}"
    path = Path(row.artifact)
    return f"{path.suffix} {path.parent.name.rpartition('-')[2]}" if path.suffix in (".pte", ".tflite") else row.runtime


def _latency(row: Row) -> str:
    name = _name(row)
    if row.median_ms is None:
        return f"| {name} | {row.status}: {row.reason} | | | |"
    return f"| {name} | {row.median_ms:.0f} ms | {row.p90_ms:.0f} ms | {row.ratio:.2f} | {row.roof_share:.0%} |"


def _size(measured: Latency) -> Iterator[str]:
    height, width = measured.image_size
    for row in measured.found.results:
        start = f"| {height}x{width} | {measured.macs / 1e9:.1f} | {_name(row)} |"
        if row.median_ms is None:
            yield f"{start} {row.status}: {row.reason} | | |"
        else:
            yield f"{start} {row.median_ms:.0f} ms | {row.ratio:.2f} | {row.roof_share:.0%} |"


def _conversion(made: Conversion) -> str:
    if made.seconds is None:
        return f"| {made.name} | {made.error} | |"
    return f"| {made.name} | {made.seconds:.1f} | {(made.peak_memory_bytes or 0) / 1e9:.1f} GB |"
