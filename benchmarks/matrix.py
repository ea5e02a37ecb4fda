"""Convert and verify every registered model in every format and float precision; write docs/measured/matrix.md.

    make matrix
    python benchmarks/matrix.py --models tiny_vit_5m_224,efficientvit_m0 --formats coreai
    python benchmarks/matrix.py --formats executorch --backend coreml

Weights are random and non-degenerate (seed 0): the table is about conversions, not about accuracy; the cost of integers
is measured by benchmarks/quantization.py. Artifacts stay in `--out`, so an interrupted run resumes, and a row takes the
place of the row of the same model, format and precision, so a part can be measured alone. Exit code 1 when anything
failed, missed its threshold, or is not taken whole by LiteRT's GPU accelerator, where there is one.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from shared import MEASURED, usual_runtimes, write_page

from mobilevit_sdk import convert
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.conversion.pipeline import ConvertResult
from mobilevit_sdk.formats.converter import Converter, converters, find_converter, label
from mobilevit_sdk.formats.quantization import QUANTIZED
from mobilevit_sdk.models.registry import list_models, model_spec
from mobilevit_sdk.parity import Run, Verdict, judge, run_artifacts
from mobilevit_sdk.parity.views import lowest_db, views_of
from mobilevit_sdk.text import percent

RUNTIMES = ("litert-cpu", "coreml-reference")  # of a format with several: the matrix is large
GPU = "litert-gpu"
ALL_CASES = 27
COLUMNS = {  # of the table, and whether they are numbers
    "": False,
    "parameters": True,
    "input": True,
    "format": False,
    "precision": False,
    "size": True,
    "SQNR": True,
    "PSNR": True,
    "same best": True,
    "rank": True,
    "delegate": True,
    "GPU alone": False,
    "seconds": True,
}
Row = dict[str, str]  # cells by column

_HEAD = """# Every model, format and precision

Written by `make matrix`: models at their published size, with random non-degenerate weights, converted and compared
with PyTorch on 27 images, or on as many as a cell says: white, noise, then photographs. Apple's runtime takes 1 to 13
seconds of this machine for each billion multiply-accumulates, and Vulkan runs on a CPU here.

- *SQNR* is that of the worst image, *same best* the share of images with the same best class. A cell in **bold** missed
  its threshold.
- *PSNR* is what Apple judges Core AI files by, of the worst image: 10 log10 of the largest squared score over the mean
  squared error, with the constants of its published tests added to both, which end it at about 100 dB. Apple expects 70
  dB of float32 and 50 dB of float16, and asks to look into 60 and 40; **bold** is below that.
- *Delegate* counts calls into the accelerated backend and operators outside it; Core ML and Core AI decide on the
  device.
- *GPU alone*: whether LiteRT's GPU accelerator takes the file with nothing left to the CPU
  (`is_fully_accelerated()`), and the SQNR of its answer to the first image.
- *Seconds* are those of one conversion, while others ran on the same {cores} cores ({machine}).
- Made with Python {python}, {tools}.

"""


def main() -> int:
    """Run the matrix; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="only these, separated by commas")
    parser.add_argument("--formats", help="only these, separated by commas")
    parser.add_argument("--backend", help="of the one format")
    parser.add_argument("--precisions", help="only these, separated by commas; without it all that compute in floats")
    parser.add_argument("--cases", type=int, help="only so many images, for runtimes that are slow here")
    parser.add_argument("--defaults", action="store_true", help="only each format's default precision")
    parser.add_argument("--out", type=Path, default=Path("out/matrix"), help="folder of the artifacts")
    parser.add_argument("--table", type=Path, default=MEASURED / "matrix.md", help="the table to write")
    parser.add_argument("--force", action="store_true", help="convert again what is there")
    parser.add_argument("--merge", type=Path, nargs="+", help="measure nothing, take the rows of these tables")
    options = parser.parse_args()
    if options.merge:
        _merge([row for table in options.merge for row in _rows_of(table)], options.table)
        return 0
    names = options.models.split(",") if options.models else list_models()
    formats = options.formats.split(",") if options.formats else list(converters())
    chosen = [find_converter(name, options.backend) for name in formats]
    wanted = options.precisions.split(",") if options.precisions else None
    good = True
    for number, name in enumerate(names, 1):
        started = time.monotonic()
        checkpoint = random_checkpoint(model_spec(name), seed=0)
        parameters = f"{sum(p.numel() for p in checkpoint.model.parameters()):,}"
        rows: list[Row] = []
        for converter in chosen:
            possible = converter.precisions[:1] if options.defaults else converter.precisions
            precisions = [p for p in possible if (p in wanted if wanted else p not in QUANTIZED)]
            result = convert(
                checkpoint,
                out=options.out,
                formats=converter.format,
                backend=options.backend,
                precisions=precisions,
                force=options.force,
                check=False,
            )
            runtime = _runtime(converter)
            shown = partial(_some_cases, count=options.cases)
            runs = []
            if runtime and result.artifacts:
                runs = run_artifacts(result.artifacts, runtimes=[runtime], reference=shown)
            on_gpu = _on_gpu(result.artifacts)
            good &= not result.failures and all(judge(run).status == "passed" for run in runs)
            good &= not any(run.refusal and run.refusal[0] != "unavailable" for run in on_gpu.values())
            rows += _rows(result, label(converter), parameters, runs, on_gpu)
        _merge(rows, options.table)
        print(f"[{number}/{len(names)}] {name}: {_summary(rows)}, {time.monotonic() - started:.0f} s", flush=True)
    return 0 if good else 1


def _runtime(converter: Converter) -> str | None:
    """The runtime that stands for a format: one of RUNTIMES, or its first that is available here."""
    names = usual_runtimes(converter)
    return next((name for name in RUNTIMES if name in names), names[0] if names else None)


def _merge(rows: Sequence[Row], table: Path) -> None:
    """Write the page with `rows` in the places of those of the same model, format and precision."""
    merged = {_key(row): row for row in [*_rows_of(table), *rows]}
    order = {name: place for place, name in enumerate(list_models())}
    body = sorted(merged.values(), key=lambda row: (order.get(row[""], len(order)), _key(row)))
    rule = ["---:" if numeric else "---" for numeric in COLUMNS.values()]
    text = [_line(COLUMNS), _line(rule), *(_line([row.get(column, "") for column in COLUMNS]) for row in body)]
    write_page(_head() + "\n".join(text) + "\n", table)


def _rows_of(table: Path) -> list[Row]:
    """The rows of a page; none where it does not exist."""
    lines = table.read_text("utf-8").splitlines() if table.exists() else []
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [dict(zip(cells[0], each, strict=True)) for each in cells[2:]]


def _line(cells: Sequence[str] | dict[str, bool]) -> str:
    return f"| {' | '.join(cells)} |"


def _key(row: Row) -> tuple[str, str, str]:
    return row[""], row["format"], row["precision"]


def _head() -> str:
    tools = ("torch", "coreai-torch", "coremltools", "litert-torch", "executorch", "onnxruntime")
    return _HEAD.format(
        cores=len(_usable_cores()),
        machine=platform.machine(),
        python=platform.python_version(),
        tools=", ".join(f"{tool} {version(tool).partition('+')[0]}" for tool in tools),
    )


def _some_cases(artifact: Artifact, count: int | None) -> Reference:
    """Its reference vectors, or `count` of them: those that are hard on float16 first."""
    whole = artifact.reference()
    names = [case.name for case in whole.cases]
    hard = [names.index(name) for name in ("ones", "noise")]
    rows = [*hard, *(row for row in range(len(names)) if row not in hard)][:count]
    return dataclasses.replace(whole, cases=tuple(whole.cases[row] for row in rows), answers=whole.answers[rows])


def _on_gpu(artifacts: Sequence[Artifact]) -> dict[Path, Run]:
    """The answers of LiteRT's GPU accelerator to the first case, by file."""

    def first_case(artifact: Artifact) -> Reference:
        whole = artifact.reference()
        return dataclasses.replace(whole, cases=whole.cases[:1], answers=whole.answers[:1])

    files = [artifact for artifact in artifacts if artifact.manifest.format == "tflite"]
    if not files:
        return {}
    return {run.artifact.path: run for run in run_artifacts(files, runtimes=[GPU], reference=first_case)}


def _gpu_cell(run: Run | None) -> str:
    if run is None:
        return ""
    if run.outputs is None or run.reference is None:
        if not run.refusal or run.refusal[0] == "unavailable":
            return "not here"
        return f"**{run.refusal[1].partition(', message=')[0]}**"  # without LiteRT's places in its own source
    return f"whole, {lowest_db(views_of(run.artifact.manifest.spec, run.reference, run.outputs)):.0f} dB"


def _usable_cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _rows(
    result: ConvertResult, format_name: str, parameters: str, runs: Sequence[Run], on_gpu: dict[Path, Run]
) -> Iterator[Row]:
    ran = {run.artifact.path: run for run in runs}
    for artifact in result.artifacts:
        manifest, run = artifact.manifest, ran.get(artifact.path)
        verdict = judge(run) if run else None
        outside = sum((manifest.undelegated_ops or {}).values())
        yield {
            "": result.model,
            "parameters": parameters,
            "input": "x".join(map(str, manifest.spec.preprocessing.image_size)),
            "format": format_name,
            "precision": manifest.precision,
            "size": f"{manifest.bytes / 1e6:.2f} MB",
            "SQNR": _sqnr_cell(verdict, len(run.reference.cases) if run and run.reference else 0),
            "PSNR": _psnr_cell(run) if run and manifest.format == "coreai" else "",
            "same best": percent(verdict.agreement.top1_agreement) if verdict and verdict.agreement else "",
            "rank": str(manifest.max_rank),
            "delegate": "on the device" if manifest.delegates is None else f"{manifest.delegates}, {outside} outside",
            "GPU alone": _gpu_cell(on_gpu.get(artifact.path)),
            "seconds": f"{manifest.seconds:.0f}",
        }
    for failure in result.failures:
        place = {"": result.model, "parameters": parameters, "format": format_name, "precision": failure.precision}
        yield place | {"size": f"**{failure.error}**"}


def _sqnr_cell(verdict: Verdict | None, cases: int) -> str:
    if verdict is None or verdict.status == "unavailable":
        return "not run here"
    text = f"{verdict.agreement.sqnr_db.worst:.1f} dB" if verdict.agreement else f"{verdict.reason}"
    text += f" of {cases}" if cases < ALL_CASES else ""
    return text if verdict.status == "passed" else f"**{text}**"


MIN_PSNR_DB = {"fp32": 60.0, "fp16": 40.0, "int8-weight": 50.0, "int4-weight": 35.0}  # below it, Apple looks into it


def psnr_db(expected: np.ndarray, found: np.ndarray) -> float:
    """The lowest PSNR of the cases, by the definition in the tests of github.com/apple/coreai-models; [cases, N]."""
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    peak, noise = np.square(expected).max(axis=1), np.square(found - expected).mean(axis=1)
    return float((10 * np.log10((peak + 1e-5) / (noise + 0.99e-10))).min())


def _psnr_cell(run: Run) -> str:
    if run.outputs is None or run.reference is None:
        return ""
    found = psnr_db(run.reference.answers, run.outputs)
    text = f"{found:.1f} dB"
    return text if found >= MIN_PSNR_DB.get(run.artifact.manifest.precision, 0.0) else f"**{text}**"


def _summary(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row['format']} {row['precision']} {row.get('SQNR', 'failed')}" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
