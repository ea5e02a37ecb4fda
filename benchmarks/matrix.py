"""Convert and verify every registered model in every format and precision; write docs/measured/matrix.md.

    make matrix
    python benchmarks/matrix.py --models tiny_vit_5m_224,efficientvit_m0

Weights are random and non-degenerate (seed 0): the table is about conversions, not about accuracy; the cost of integers
is measured by benchmarks/quantization.py. Artifacts stay in `--out`, so an interrupted run resumes. Exit code 1 when
anything failed, missed its threshold, or is not taken whole by LiteRT's GPU accelerator, where there is one.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from shared import MEASURED, write_page

from mobilevit_sdk import convert
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.conversion.pipeline import ConvertResult
from mobilevit_sdk.formats.converter import converters
from mobilevit_sdk.formats.quantization import QUANTIZED
from mobilevit_sdk.models.registry import list_models, model_spec
from mobilevit_sdk.parity import Run, Verdict, compare, passed, run_artifacts, verify
from mobilevit_sdk.text import percent

RUNTIMES = ("litert-cpu", "executorch", "coreml-reference")  # one for each format: the matrix is large
GPU = "litert-gpu"

_HEAD = """# Every model, format and precision

Written by `make matrix`: models at their published size, with random non-degenerate weights, converted and compared
with PyTorch on 27 images.

- *SQNR* is that of the worst image, *same best* the share of images with the same best class. A cell in **bold** missed
  its threshold.
- *Delegate* counts calls into the accelerated backend and operators outside it; Core ML decides on the device.
- *GPU alone*: whether LiteRT's GPU accelerator takes the file with nothing left to the CPU
  (`is_fully_accelerated()`), and the SQNR of its answer to the first image.
- *Seconds* are those of one conversion, while two others ran on the same {cores} cores ({machine}).
- Made with Python {python}, {tools}.

| | parameters | input | format | precision | size | SQNR | same best | rank | delegate | GPU alone | seconds |
| --- | ---: | ---: | --- | --- | ---: | ---: | ---: | ---: | --- | --- | ---: |
"""


def main() -> int:
    """Run the matrix; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="only these, separated by commas")
    parser.add_argument("--defaults", action="store_true", help="only each format's default precision")
    parser.add_argument("--out", type=Path, default=Path("out/matrix"), help="folder of the artifacts")
    parser.add_argument("--table", type=Path, default=MEASURED / "matrix.md", help="the table to write")
    parser.add_argument("--force", action="store_true", help="convert again what is there")
    options = parser.parse_args()
    names = options.models.split(",") if options.models else list_models()
    every = dict.fromkeys(p for converter in converters().values() for p in converter.precisions)
    precisions = [] if options.defaults else [precision for precision in every if precision not in QUANTIZED]
    rows: list[str] = []
    good = True
    for number, name in enumerate(names, 1):
        started = time.monotonic()
        checkpoint = random_checkpoint(model_spec(name), seed=0)
        result = convert(checkpoint, out=options.out, precisions=precisions, force=options.force, check=False)
        result = dataclasses.replace(result, verdicts=verify(result.artifacts, runtimes=RUNTIMES))
        on_gpu = _on_gpu(result.artifacts)
        good &= not result.failures and passed(result.verdicts)
        good &= not any(run.refusal and run.refusal[0] != "unavailable" for run in on_gpu.values())
        parameters = sum(p.numel() for p in checkpoint.model.parameters())
        rows += _rows(result, f"{parameters:,}", on_gpu)
        write_page(_head() + "\n".join(rows) + "\n", options.table)
        print(f"[{number}/{len(names)}] {name}: {_summary(result)}, {time.monotonic() - started:.0f} s", flush=True)
    return 0 if good else 1


def _head() -> str:
    tools = ("torch", "coremltools", "litert-torch", "executorch")
    return _HEAD.format(
        cores=len(_usable_cores()),
        machine=platform.machine(),
        python=platform.python_version(),
        tools=", ".join(f"{tool} {version(tool).partition('+')[0]}" for tool in tools),
    )


def _on_gpu(artifacts: Sequence[Artifact]) -> dict[Path, Run]:
    """The answers of LiteRT's GPU accelerator to the first case, by file."""

    def first_case(artifact: Artifact) -> Reference:
        whole = artifact.reference()
        return Reference(whole.cases[:1], whole.logits[:1])

    files = [artifact for artifact in artifacts if artifact.manifest.format == "tflite"]
    return {run.artifact.path: run for run in run_artifacts(files, runtimes=[GPU], reference=first_case)}


def _gpu_cell(run: Run | None) -> str:
    if run is None:
        return ""
    if run.outputs is None or run.reference is None:
        return f"**{run.refusal[1]}**" if run.refusal and run.refusal[0] != "unavailable" else "not here"
    return f"whole, {compare(run.reference.logits, run.outputs).sqnr_db.worst:.0f} dB"


def _usable_cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _rows(result: ConvertResult, parameters: str, on_gpu: dict[Path, Run]) -> Iterator[str]:
    for artifact in result.artifacts:
        verdict = next(v for v in _verdicts_of(artifact, result.verdicts) if v.status != "unavailable")
        manifest = artifact.manifest
        size = "x".join(map(str, manifest.spec.preprocessing.image_size))
        outside = sum((manifest.undelegated_ops or {}).values())
        delegate = "on the device" if manifest.delegates is None else f"{manifest.delegates}, {outside} outside"
        sqnr = f"{verdict.agreement.sqnr_db.worst:.1f} dB" if verdict.agreement else f"{verdict.reason}"
        best = percent(verdict.agreement.top1_agreement) if verdict.agreement else ""
        cells = (
            result.model,
            parameters,
            size,
            manifest.format,
            manifest.precision,
            f"{manifest.bytes / 1e6:.2f} MB",
            sqnr if verdict.status == "passed" else f"**{sqnr}**",
            best,
            str(manifest.max_rank),
            delegate,
            _gpu_cell(on_gpu.get(artifact.path)),
            f"{manifest.seconds:.0f}",
        )
        yield f"| {' | '.join(cells)} |"
    for failure in result.failures:
        start = f"| {result.model} | {parameters} | | {failure.format} | {failure.precision} |"
        yield f"{start} | **{failure.error}** | | | | | |"


def _verdicts_of(artifact: Artifact, verdicts: list[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.artifact == str(artifact.path)]


def _summary(result: ConvertResult) -> str:
    ran = [verdict for verdict in result.verdicts if verdict.status != "unavailable"]
    return f"{sum(v.status == 'passed' for v in ran)} of {len(ran) + len(result.failures)} passed"


if __name__ == "__main__":
    sys.exit(main())
