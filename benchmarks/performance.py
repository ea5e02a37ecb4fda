"""Measure four networks against stock conversions and runtimes, and write docs/measured/performance.md.

    python benchmarks/performance.py
    python benchmarks/performance.py --models mobilevit_xxs,efficientvit_m0 --force

Run it on a quiet machine: candidates take turns, so ratios of latencies hold on a noisy one too, but seconds of
conversion do not. Weights are random and non-degenerate (seed 0), the same for all. Measurements stay in `--out`, one
file per network, so an interrupted run resumes; `--force` measures again.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from performance_page import FORMATS, MODELS, STOCK, Conversion, Record, bars, write_performance
from shared import MEASURED, read_record, tell, write_record

from mobilevit_sdk import convert
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.bench import BASELINES, Candidate, bench, candidates_of, prepare
from mobilevit_sdk.bench.plan import thread_counts
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.data import to_model_input
from mobilevit_sdk.deployment import TARGETS, deploy
from mobilevit_sdk.errors import MobileViTError, ToolchainError
from mobilevit_sdk.models.registry import model_spec
from mobilevit_sdk.parity import passed
from mobilevit_sdk.progress import Step


def main() -> int:
    """Measure what is missing, then write the page; the exit code: 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="only these, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("out/performance"), help="folder of files and measurements")
    parser.add_argument("--page", type=Path, default=MEASURED / "performance.md", help="the page to write")
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
        write_record(record, file)
        tell(f"{name}: measured in {time.monotonic() - started:.0f} s")
    files = [file for name in MODELS if (file := options.out / f"{name}.json").exists()]
    records = [read_record(file, Record) for file in files]
    write_performance(records, options.page)
    return 0 if all(met for record in records for _, met in bars(record)) else 1


def measure(name: str, out: Path, rounds: int) -> Record:
    """Convert with the SDK and without it, one after the other, then time all in interleaved rounds."""
    checkpoint = random_checkpoint(model_spec(name), seed=0)
    spec = checkpoint.spec
    conversions: list[Conversion] = []
    candidates: list[Candidate] = []
    for format_name, suffix in FORMATS.items():
        tell(f"{name}: {suffix}")
        artifact = _ours(checkpoint, format_name, out)
        manifest = artifact.manifest
        conversions.append(Conversion(suffix, manifest.seconds, manifest.peak_memory_bytes, manifest.bytes))
        candidates += candidates_of(artifact)
    question = candidates[0].question
    for stock in STOCK:
        baseline = BASELINES[stock]
        if baseline.export:
            tell(f"{name}: {stock}")
        try:
            prepared = prepare(baseline, checkpoint, out / f"{name}-stock")
        except MobileViTError as error:
            reason = " ".join(click.unstyle(str(error)).split())[:200]
            conversions.append(Conversion(stock, error=reason))
            candidates.append(Candidate(name, stock, question, partial(baseline.open_session, out, spec), reason))
            continue
        if baseline.export:
            size = sum(file.stat().st_size for file in prepared.file.parent.glob(f"{prepared.file.name}*"))
            conversions.append(Conversion(stock, prepared.seconds, prepared.peak_memory_bytes, size))
        candidates.append(prepared.candidate(question))
    pytorch = candidates[-1]
    shown: set[tuple[str, str]] = set()

    def show(step: Step) -> None:
        if (step.stage, step.detail) not in shown:
            shown.add((step.stage, step.detail))
            tell(f"{name}: {step.stage}, {step.detail}")

    latency = bench(
        candidates,
        threads=thread_counts(["1", "2"]),
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


if __name__ == "__main__":
    sys.exit(main())
