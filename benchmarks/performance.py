"""Measure four networks against what a user would do without this SDK, and write docs/performance.md.

    python benchmarks/performance.py
    python benchmarks/performance.py --models mobilevit_xxs,efficientvit_m0 --force

On a quiet machine: every latency is one of several candidates that take turns, so ratios hold on a noisy one too, but
seconds of conversion do not. Weights are random and non-degenerate (seed 0), the same for all. What was measured stays
in `--out`, one file for each network, so that an interrupted run goes on where it stopped; `--force` measures again.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import msgspec
import numpy as np
import torch

from mobilevit_sdk import convert
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.bench import BASELINES, BenchResult, Candidate, Row, bench, candidates_of, prepare
from mobilevit_sdk.bench.chart import write_chart
from mobilevit_sdk.bench.plan import thread_counts
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS, deploy
from mobilevit_sdk.errors import MobileViTError, ToolchainError
from mobilevit_sdk.files import replacing
from mobilevit_sdk.models.registry import model_spec
from mobilevit_sdk.parity import passed
from mobilevit_sdk.progress import Step
from mobilevit_sdk.spec import Strict

PLAIN = ("executorch-stock", "tflite-stock", "onnxruntime", "pytorch-compile", "pytorch")
FORMATS = {"executorch": ".pte", "tflite": ".tflite"}
EXACT = 1e-9  # relative, float64
CONVERSION = 0.6


@dataclass(frozen=True)
class Bar:
    """The most that the latency of our file may be, over that of another way, by model."""

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
    """What it took to make a file; `error` where there is none."""

    name: str
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    bytes: int | None = None
    error: str | None = None


class Record(Strict, frozen=True):
    """All that was measured of one network. `exactness`: target -> relative difference in float64."""

    model: str
    image_size: tuple[int, int]
    parameters: int
    macs: int
    exactness: dict[str, float]
    conversions: list[Conversion]
    latency: BenchResult


def main() -> int:
    """Measure what is missing, then write the page; the exit code: 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="only these, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("out/performance"), help="folder of files and measurements")
    parser.add_argument("--page", type=Path, default=Path("docs/performance.md"), help="the page to write")
    parser.add_argument("--rounds", type=int, default=20, help="of ten inferences each")
    parser.add_argument("--force", action="store_true", help="measure again what was measured")
    options = parser.parse_args()
    names = options.models.split(",")
    if unknown := set(names) - set(MODELS):
        parser.error(f"there are no bars for {', '.join(sorted(unknown))}; known: {', '.join(MODELS)}")
    for name in names:
        file = options.out / f"{name}.json"
        if file.exists() and not options.force:
            continue
        started = time.monotonic()
        record = measure(name, options.out, options.rounds)
        with replacing(file) as fresh:
            fresh.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
        _tell(f"{name}: measured in {time.monotonic() - started:.0f} s")
    files = [file for name in MODELS if (file := options.out / f"{name}.json").exists()]
    records = [msgspec.json.decode(file.read_bytes(), type=Record) for file in files]
    write_page(records, options.page)
    return 0 if all(met for record in records for _, met in _bars(record)) else 1


def measure(name: str, out: Path, rounds: int) -> Record:
    """Convert with the SDK and without it, one after the other, then time all in interleaved rounds."""
    checkpoint = random_checkpoint(model_spec(name), seed=0)
    spec = checkpoint.spec
    conversions: list[Conversion] = []
    candidates: list[Candidate] = []
    for format_name, suffix in FORMATS.items():
        _tell(f"{name}: {suffix}")
        artifact = _ours(checkpoint, format_name, out)
        manifest = artifact.manifest
        conversions.append(Conversion(suffix, manifest.seconds, manifest.peak_memory_bytes, manifest.bytes))
        candidates += candidates_of(artifact)
    question = candidates[0].question
    for plain in PLAIN:
        baseline = BASELINES[plain]
        if baseline.export:
            _tell(f"{name}: {plain}")
        try:
            prepared = prepare(baseline, checkpoint, out / f"{name}-plain")
        except MobileViTError as error:
            reason = " ".join(click.unstyle(str(error)).split())[:200]
            conversions.append(Conversion(plain, error=reason))
            candidates.append(Candidate(name, plain, question, partial(baseline.open_session, out, spec), reason))
            continue
        if baseline.export:
            size = sum(file.stat().st_size for file in prepared.file.parent.glob(f"{prepared.file.name}*"))
            conversions.append(Conversion(plain, prepared.seconds, prepared.peak_memory_bytes, size))
        candidates.append(prepared.candidate(question))
    pytorch = candidates[-1]
    shown: set[tuple[str, str]] = set()

    def show(step: Step) -> None:
        if (step.stage, step.detail) not in shown:
            shown.add((step.stage, step.detail))
            _tell(f"{name}: {step.stage}, {step.detail}")

    latency = bench(
        candidates,
        threads=thread_counts([1, 2]),
        against=lambda candidate: pytorch,
        rounds=rounds,
        progress=show,
    )
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    return Record(
        name,
        spec.preprocessing.image_size,
        parameters,
        question.macs,
        exactness(checkpoint, question.image),
        conversions,
        latency,
    )


def _ours(checkpoint: Checkpoint, format_name: str, out: Path) -> Artifact:
    """The SDK's file, converted alone and verified. Raises ToolchainError where it did not pass."""
    result = convert(checkpoint, out=out, formats=[format_name], precisions=["fp32"], force=True)
    if result.failures or not passed(result.verdicts):
        reasons = [failure.error for failure in result.failures] + [str(v.reason) for v in result.verdicts if v.reason]
        raise ToolchainError(f"{checkpoint.spec.model} to {format_name}: {'; '.join(reasons)}")
    return result.artifacts[0]


@torch.no_grad()
def exactness(checkpoint: Checkpoint, image: np.ndarray) -> dict[str, float]:
    """How far each target's phone graph is from the reference form in float64, relative to the largest score."""
    model = copy.deepcopy(checkpoint.model).double()
    pixels = torch.from_numpy(image)[None].double() / 255
    expected = model(to_model_input(pixels, checkpoint.spec.preprocessing))
    found = {target: deploy(model, target, checkpoint.spec)(pixels) for target in TARGETS}
    return {target: float((scores - expected).abs().max() / expected.abs().max()) for target, scores in found.items()}


def write_page(records: list[Record], page: Path) -> None:
    """The page and its picture, from the records alone."""
    panels = {
        f"{_title(record)}, {_threads(count)}": _rows(record, count) for record in records for count in _counts(record)
    }
    picture = page.with_suffix(".png")
    write_chart(panels, picture)
    baselines = "\n".join(f"- `{name}`: {BASELINES[name].description}." for name in PLAIN)
    load = max(record.latency.machine.load for record in records)
    machines = dict.fromkeys(msgspec.structs.replace(r.latency.machine, load=load).describe() for r in records)
    roofs = ", ".join(f"{_roof(records, count):.0f} with {_threads(count)}" for count in _counts(records[0]))
    latency = records[0].latency
    text = _PAGE.format(
        baselines=baselines,
        machines="; ".join(machines),
        roofs=roofs,
        rounds=latency.rounds,
        inferences=latency.inferences,
        bars="\n".join(line for record in records for line, _ in _bars(record)),
        picture=picture.name,
        latencies="\n".join(line for record in records for line in _latencies(record)),
        conversions="\n".join(line for record in records for line in _conversions(record)),
    )
    with replacing(page) as fresh:
        fresh.write_text(text)


_PAGE = """# Performance

Written by `python benchmarks/performance.py`. Random weights that hide nothing, the same for all; one image of the
network's published size; float32. `.pte` and `.tflite` are this SDK's files, run by ExecuTorch and LiteRT. Beside them,
what the same checkpoint does without it, each tool used as its own documentation begins:

{baselines}

These take normalized pixels, ours normalize inside the graph. All candidates are alive at once, each in a process of
its own with as many threads as stated, warmed up alike, and take turns in {rounds} rounds of {inferences} inferences,
in an order that is drawn anew for each round. Timed is the way from the runtime's own input to the scores; each
candidate first had to answer as PyTorch does. The *roof* is the rate of the fastest product of two 512x512 float32
matrices in the same rounds; *of roof* is the share of it that the network's multiply-accumulates reach.

Machine: {machines}. Roof: {roofs} (1e9 multiply-accumulates a second).

## Bars

Ratios of medians, or of seconds; lower is better. Bold: missed. *Roof at the bar* is the share of the roof that our
file would have to reach with 1 and with 2 threads, activation functions, softmax and data movement included, for the
ratio to be met: what is near 100% or beyond it cannot be had from the same multiply-accumulates.

| network | | at most | 1 thread | 2 threads | roof at the bar |
| --- | --- | ---: | ---: | ---: | ---: |
{bars}

## Latency

![Latencies]({picture})

| network | | threads | median | p90 | over PyTorch | of roof | SQNR to PyTorch |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
{latencies}

## Conversion

From the checkpoint to the file, in a process of its own, one at a time; ours include reading the file back.

| network | | seconds | peak memory | size |
| --- | --- | ---: | ---: | ---: |
{conversions}
"""


def _bars(record: Record) -> Iterator[tuple[str, bool]]:
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
    ours, plain = seconds[".pte"], seconds["executorch-stock"]
    yield _bar(
        record, "seconds to a .pte over executorch-stock", CONVERSION, [ours / plain if ours and plain else None]
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


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _counts(record: Record) -> list[int]:
    return list(record.latency.sgemm_gmacs_per_second)


def _rows(record: Record, threads: int) -> list[Row]:
    return [row for row in record.latency.results if row.threads == threads]


def _roof(records: list[Record], threads: int) -> float:
    return max(record.latency.sgemm_gmacs_per_second[threads] for record in records)


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
