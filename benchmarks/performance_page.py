"""The records of benchmarks/performance.py, and the page that is written from them alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from shared import write_page

from mobilevit_sdk.bench import BASELINES, BenchResult, Row
from mobilevit_sdk.bench.chart import write_chart
from mobilevit_sdk.spec import Strict

STOCK = ("executorch-stock", "tflite-stock", "onnxruntime", "pytorch-compile", "pytorch")
FORMATS = {"executorch": ".pte", "tflite": ".tflite"}
EXACT = 1e-9  # relative, float64
CONVERSION = 0.6


@dataclass(frozen=True)
class Bar:
    """The highest allowed latency of our file over that of a stock one, by model."""

    runtime: str
    baseline: str
    at_most: dict[str, float]


MODELS = ("mobilevit_xxs", "tiny_vit_5m_224", "efficientvit_m0", "mobilevitv2_050")
BARS = (
    Bar("executorch", "executorch-stock", dict(zip(MODELS, (0.30, 0.55, 0.65, 0.70), strict=True))),
    Bar("litert-cpu", "tflite-stock", dict.fromkeys(MODELS, 0.85)),
    Bar("litert-cpu", "onnxruntime", dict.fromkeys(MODELS, 0.70)),
)


class Conversion(Strict, frozen=True):
    """What it took to make a file, or the `error` where that failed."""

    name: str
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    bytes: int | None = None
    error: str | None = None


class Record(Strict, frozen=True):
    """Everything measured of one network. `exactness`: target -> relative difference in float64."""

    model: str
    image_size: tuple[int, int]
    parameters: int
    macs: int
    exactness: dict[str, float]
    conversions: list[Conversion]
    latency: BenchResult


def write_performance(records: list[Record], page: Path) -> None:
    """The page and its picture, from the records alone."""
    panels = {
        f"{_title(record)}, {threads_of(count)}": _rows(record, count)
        for record in records
        for count in _counts(record)
    }
    picture = page.with_suffix(".png")
    write_chart(panels, picture)
    baselines = "\n".join(f"- `{name}`: {BASELINES[name].description}." for name in STOCK)
    load = max(record.latency.machine.load for record in records)
    machines = dict.fromkeys(msgspec.structs.replace(r.latency.machine, load=load).describe() for r in records)
    roofs = ", ".join(f"{_roof(records, count):.0f} with {threads_of(count)}" for count in _counts(records[0]))
    latency = records[0].latency
    text = _PAGE.format(
        baselines=baselines,
        machines="; ".join(machines),
        roofs=roofs,
        rounds=latency.rounds,
        inferences=latency.inferences,
        bars="\n".join(line for record in records for line, _ in bars(record)),
        picture=picture.name,
        latencies="\n".join(line for record in records for line in _latencies(record)),
        conversions="\n".join(line for record in records for line in _conversions(record)),
    )
    write_page(text, page)


_PAGE = """# Performance

Written by `python benchmarks/performance.py`. Weights are random and non-degenerate, the same for all; one image of the
network's published size; float32. `.pte` and `.tflite` are this SDK's files, run by ExecuTorch and LiteRT. The others
are stock conversions of the same checkpoint, each tool used as its own documentation begins:

{baselines}

These take normalized pixels; ours normalize inside the graph. All candidates are alive at once, each in its own process
with as many threads as stated, warmed up alike, and take turns in {rounds} rounds of {inferences} inferences, in a new
random order each round. The time runs from the runtime's own input to the scores; each candidate first had to answer as
PyTorch does. The *roof* is the rate of the fastest product of two 512x512 float32
matrices in the same rounds; *of roof* is the share of it that the network's multiply-accumulates reach.

Machine: {machines}. Roof: {roofs} (1e9 multiply-accumulates a second).

## Bars

Ratios of medians, or of seconds; lower is better. Bold: missed. *Roof at the bar* is the share of the roof that our
file would have to reach with 1 and with 2 threads, activation functions, softmax and data movement included, to meet
the ratio: near 100% or above, the same multiply-accumulates cannot meet it.

| network | | at most | 1 thread | 2 threads | roof at the bar |
| --- | --- | ---: | ---: | ---: | ---: |
{bars}

## Latency

![Latencies]({picture})

| network | | threads | median | p90 | over PyTorch | of roof | SQNR to PyTorch |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
{latencies}

## 3x3 convolutions of a .pte on x86 without AVX-512

There, ExecuTorch 1.5.1 takes more than twice as long as LiteRT 2.3: 54 ms against 25 ms of one core for eight 3x3
convolutions (64 channels, 56x56), on a busy machine whose AVX-512 was hidden by faulting CPUID. Samples of the program
counter and the machine code under them show the same kernel of XNNPACK in both, `f32_igemm 5x16 fma3 broadcast`.
LiteRT's library is made by Clang 18, which holds the ten accumulators of the inner loop in registers; ExecuTorch's
wheel is made by GCC 13.3, which keeps one of them in memory, so that every step waits for the store of the one before.
The kernel of 1x1 convolutions, `f32_gemm 6x16`, has no such spill there, and with AVX-512's registers, twice as many,
no gap was seen.

Neither the graph nor an option avoids it: XNNPACK chooses a kernel by the processor alone. A runtime built with Clang
should, and Android's NDK and Xcode are Clang. ARM64 does not have the gap: for EfficientViT-M0 in float32 both execute
21,624,076 vector multiply-accumulates, and 36.2 (.pte) and 34.6 (.tflite) million instructions in all
([instructions on ARM](arm-instructions.md)).

## .onnx over the reference form's own export

Ratio of the `fp32` .onnx to the file that `torch.onnx.export` makes of the same network as it was trained, both on
onnxruntime 1.31.1 and one thread, in 40 interleaved rounds, the best of 5 inferences in each; the ratio is the median
of the rounds'. The machine was busy, with this measurement at a higher priority. The bar is 0.9; bold: missed.

| network | .onnx | own export | ratio | operators |
| --- | ---: | ---: | ---: | ---: |
| mobilevit_xxs at 256 | 11.10 ms | 12.64 ms | 0.88 | 376, 394 |
| mobilevitv2_050 at 256 | 10.33 ms | 12.02 ms | 0.86 | 510, 313 |
| tiny_vit_5m_224 at 224 | 27.83 ms | 28.27 ms | **0.99** | 411, 470 |
| efficientvit_m0 at 224 | 2.34 ms | 2.79 ms | 0.84 | 483, 831 |

What is missed is arithmetic that both files share: by onnxruntime's profile, 77% of TinyViT-5M's time are matrix
products, convolutions and GELU, the same in both, and 3% transposes, of which the export has a third more.

Mean and std are a subtraction, and a factor in the first convolution's weights. As a 1x1 convolution of three channels
channels they took 0.27 ms of EfficientViT-M0's 3 ms and 0.14 ms to bring its answer back from blocks of 16 channels:
0.97 before. On XNNPACK, whose layout keeps channels last, it makes no clear difference (subtraction over convolution,
EfficientViT-M0 and MobileViT-XXS: .pte 0.98 and 1.01, .tflite 1.04 and 1.01), so the convolution stays there.

## Conversion

From the checkpoint to the file, each in its own process, one at a time; ours include reading the file back.

| network | | seconds | peak memory | size |
| --- | --- | ---: | ---: | ---: |
{conversions}
"""


def bars(record: Record) -> Iterator[tuple[str, bool]]:
    """The lines of the table of bars, and whether each was met. What does not exist elsewhere is met."""
    names = {"executorch": ".pte", "litert-cpu": ".tflite"}
    for bar in BARS:
        at_most = bar.at_most[record.model]
        ratios = [_ratio(record, bar, count) for count in _counts(record)]
        asked = [
            f"{_roof_share(record, bar.runtime, count) * ratio / at_most:.0%}"
            for count, ratio in zip(_counts(record), ratios, strict=True)
            if ratio
        ]
        yield _bar(record, f"{names[bar.runtime]} over {bar.baseline}", at_most, ratios, ", ".join(asked))
    seconds = {conversion.name: conversion.seconds for conversion in record.conversions}
    ours, stock = seconds[".pte"], seconds["executorch-stock"]
    yield _bar(
        record, "seconds to a .pte over executorch-stock", CONVERSION, [ours / stock if ours and stock else None]
    )
    yield _bar(record, "relative difference, float64, worst target", EXACT, [max(record.exactness.values())])


def _bar(record: Record, what: str, at_most: float, found: list[float | None], roof: str = "") -> tuple[str, bool]:
    def cell(value: float | None) -> str:
        if value is None:
            return "does not convert"
        text = f"{value:.1e}" if at_most < 1e-3 else f"{value:.2f}"
        return text if value <= at_most else f"**{text}**"

    cells = [cell(value) for value in found] + [""] * (2 - len(found))
    limit = f"{at_most:g}" if at_most < 1e-3 else f"{at_most:.2f}"
    line = f"| {_title(record)} | {what} | {limit} | {' | '.join(cells)} | {roof} |"
    return line, all(value is None or value <= at_most for value in found)


def _ratio(record: Record, bar: Bar, threads: int) -> float | None:
    median = {row.runtime: row.median_ms for row in _rows(record, threads)}
    ours, other = median[bar.runtime], median[bar.baseline]
    return ours / other if ours and other else None


def _roof_share(record: Record, runtime: str, threads: int) -> float:
    (share,) = (row.roof_share for row in _rows(record, threads) if row.runtime == runtime)
    return share or 0.0


def _latencies(record: Record) -> Iterator[str]:
    for row in record.latency.results:
        start = f"| {_title(record)} | {_name(row)} | {row.threads} |"
        if row.median_ms is None:
            yield f"{start} {row.status}: {row.reason} | | | | |"
        else:
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            yield (
                f"{start} {row.median_ms:.2f} ms | {row.p90_ms:.2f} ms | {ratio} | {row.roof_share:.0%} | "
                f"{row.sqnr_db:.0f} dB |"
            )


def _conversions(record: Record) -> Iterator[str]:
    for made in record.conversions:
        start = f"| {_title(record)} | {made.name} |"
        if made.seconds is None or made.bytes is None:
            yield f"{start} {made.error} | | |"
        else:
            peak = "not measured" if made.peak_memory_bytes is None else f"{made.peak_memory_bytes / 1e9:.2f} GB"
            yield f"{start} {made.seconds:.1f} | {peak} | {made.bytes / 1e6:.2f} MB |"


def _name(row: Row) -> str:
    return row.runtime if row.runtime in BASELINES else f"**{Path(row.artifact).suffix}**"


def _title(record: Record) -> str:
    return f"{record.model} at {record.image_size[0]}"


def threads_of(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _counts(record: Record) -> list[int]:
    return list(record.latency.sgemm_gmacs_per_second)


def _rows(record: Record, threads: int) -> list[Row]:
    return [row for row in record.latency.results if row.threads == threads]


def _roof(records: list[Record], threads: int) -> float:
    return max(record.latency.sgemm_gmacs_per_second[threads] for record in records)
