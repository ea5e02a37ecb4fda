"""Measure DETR's phone files against stock conversions, and write docs/measured/detector-files.md.

    python benchmarks/detector_files.py
    python benchmarks/detector_files.py --steps latency --force

DETR-R50 has its published widths and random, non-degenerate weights (seed 0): no weights of a release were at hand, and
none of these numbers depends on them. Run it on a quiet machine: candidates take turns, so ratios of latencies hold on
a noisy one too, but seconds of conversion do not. Each step's measurements stay in `--out`, so an interrupted run
resumes.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import click
from detector_files_page import Conversion, Files, Latency, Proof, write_detector_page
from detector_stock import candidate, make
from shared import MEASURED, read_record, tell, write_record

from mobilevit_sdk import convert
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.bench import BASELINES, Candidate, bench, candidates_of, prepare
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.errors import MobileViTError, ToolchainError
from mobilevit_sdk.models.registry import model_spec, spec_at_size
from mobilevit_sdk.parity.gate import Verdict

MODEL = "detr_resnet50"
SIZES = ((320, 320), (480, 640), (640, 640))  # height and width
FILES = (("executorch", "fp32"), ("executorch", "fp16"), ("tflite", "fp32"))
STOCK = {"executorch": "executorch-stock", "tflite": "tflite-stock"}
STEPS = ("files", "stock", "latency", "sizes")


def main() -> int:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default=",".join(STEPS), help="only these, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("out/detector-files"), help="folder of files and measurements")
    parser.add_argument("--page", type=Path, default=MEASURED / "detector-files.md", help="the page to write")
    parser.add_argument("--rounds", type=int, default=6, help="of ten inferences each")
    parser.add_argument("--force", action="store_true", help="measure again what was measured")
    options = parser.parse_args()
    for step in options.steps.split(","):
        file = options.out / f"{step}.json"
        if options.force or not file.exists():
            if step == "files":
                write_record(_files(options.out), file)
            elif step == "stock":
                write_record(_stock(options.out), file)
            elif step == "latency":
                write_record(_latency(options.out, options.rounds), file)
            else:
                write_record([_at_size(size, options.out, options.rounds) for size in SIZES], file)
            tell(f"{step}: measured")
    if all((options.out / f"{step}.json").exists() for step in STEPS):
        write_detector_page(
            read_record(options.out / "files.json", Files),
            read_record(options.out / "stock.json", list[Conversion]),
            read_record(options.out / "latency.json", Latency),
            read_record(options.out / "sizes.json", list[Latency]),
            options.page,
        )
    return 0


def _checkpoint(size: tuple[int, int] = SIZES[0]) -> Checkpoint:
    return random_checkpoint(spec_at_size(model_spec(MODEL), *size), seed=0)


def _files(out: Path) -> Files:
    """Our files, each converted alone, and what verification says of each."""
    checkpoint = _checkpoint()
    conversions, proofs = [], []
    for format_name, precision in FILES:
        tell(f"{format_name} {precision}")
        artifact, verdicts = _ours(checkpoint, format_name, precision, out / "320x320")
        manifest = artifact.manifest
        made = Conversion(f"{artifact.path.suffix} {precision}", manifest.seconds, manifest.peak_memory_bytes)
        conversions.append(made)
        for verdict in verdicts:
            boxes, scores = (verdict.outputs or {}).get("boxes"), (verdict.outputs or {}).get("logits")
            proofs.append(
                Proof(
                    *(made.name, verdict.runtime, verdict.status, manifest.delegates, manifest.undelegated_ops or {}),
                    *(manifest.max_rank, sum(manifest.operators.values()), manifest.bytes),
                    scores.sqnr_db.worst if scores else None,
                    boxes.sqnr_db.worst if boxes else None,
                    boxes.max_pixels or None if boxes else None,
                    " ".join((verdict.reason or "").split())[:200],
                )
            )
    return Files(conversions, proofs)


def _ours(
    checkpoint: Checkpoint, format_name: str, precision: str, out: Path, *, check: bool = True
) -> tuple[Artifact, list[Verdict]]:
    result = convert(checkpoint, out=out, formats=format_name, precisions=precision, force=True, check=check)
    if result.failures or not result.artifacts:
        raise ToolchainError("; ".join(failure.error for failure in result.failures))
    return result.artifacts[0], list(result.verdicts)


def _stock(out: Path) -> list[Conversion]:
    """The same network by the stock routes: its reference form, and that of transformers."""
    checkpoint, folder, made = _checkpoint(), out / "stock", list[Conversion]()
    for route in STOCK.values():
        for network in ("reference form", "transformers"):
            name = f"{network}, {route}"
            tell(name)
            try:
                if network == "transformers":
                    _, seconds, peak = make(route, checkpoint, folder)
                else:
                    prepared = prepare(BASELINES[route], checkpoint, folder)
                    seconds, peak = prepared.seconds, prepared.peak_memory_bytes
                made.append(Conversion(name, seconds, peak))
            except MobileViTError as error:
                said = re.sub(r"\S*/(?=[\w.-]+)", "", " ".join(click.unstyle(str(error)).split()))  # whose folders?
                made.append(Conversion(name, error=said[:200]))
    return made


def _latency(out: Path, rounds: int) -> Latency:
    """All files at 320x320 in interleaved rounds; PyTorch is what they are over."""
    from mobilevit_sdk.artifacts.artifact import open_artifact
    from mobilevit_sdk.bench.baselines import Prepared

    checkpoint, candidates = _checkpoint(), list[Candidate]()
    for format_name, precision in FILES:
        candidates += candidates_of(open_artifact(out / "320x320" / f"{MODEL}-{format_name}-{precision}"))
    question = candidates[0].question
    for route in STOCK.values():
        baseline = BASELINES[route]
        if (file := out / "stock" / f"{route}{baseline.suffix}").exists():
            candidates.append(Prepared(baseline, checkpoint, file).candidate(question))
        if (file := out / "stock" / f"transformers{baseline.suffix}").exists():
            candidates.append(candidate(route, file, checkpoint, question))
    candidates.append(prepare(BASELINES["pytorch"], checkpoint, out / "stock").candidate(question))
    return _measured(candidates, SIZES[0], rounds)


def _at_size(size: tuple[int, int], out: Path, rounds: int) -> Latency:
    """Our float32 files at a size, beside PyTorch."""
    checkpoint, candidates = _checkpoint(size), list[Candidate]()
    name = "x".join(map(str, size))
    for format_name in STOCK:
        tell(f"{format_name} at {name}")
        candidates += candidates_of(_ours(checkpoint, format_name, "fp32", out / name, check=False)[0])
    stock = prepare(BASELINES["pytorch"], checkpoint, out / name / "stock")
    candidates.append(stock.candidate(candidates[0].question))
    return _measured(candidates, size, rounds)


def _measured(candidates: list[Candidate], size: tuple[int, int], rounds: int) -> Latency:
    tell(f"latency at {size[0]}x{size[1]}")
    reference = candidates[-1]
    found = bench(candidates, threads=[1], against=lambda each: reference, rounds=rounds)
    return Latency(size, candidates[0].question.macs, found)


if __name__ == "__main__":
    sys.exit(main())
