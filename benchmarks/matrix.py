"""Convert and verify every registered model in every format and precision, and write the table of docs/matrix.md.

    make matrix
    python benchmarks/matrix.py --models tiny_vit_5m_224,efficientvit_m0

Weights are random and non-degenerate (seed 0): the table is about conversions, not about accuracy. Artefacts stay in
`--out`, so that an interrupted run goes on where it stopped. Exit code 1 when anything failed or missed its threshold.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from mobilevit_sdk import convert
from mobilevit_sdk.artifact import Artifact
from mobilevit_sdk.conversion import ConvertResult
from mobilevit_sdk.converter import converters
from mobilevit_sdk.files import replacing
from mobilevit_sdk.parity import Verdict, passed
from mobilevit_sdk.registry import list_models, model_spec
from mobilevit_sdk.source import random_checkpoint

_HEAD = """# Every model, format and precision

Written by `make matrix`: models at their published size, with random weights that hide nothing, converted and compared
with PyTorch on 27 images.

- *SQNR* is that of the worst image, *same best* the share of images with the same best class. A cell in **bold** missed
  its threshold.
- *Delegate* counts calls into the accelerated backend and operators outside it; CoreML decides on the device.
- *Seconds* are those of one conversion, while two others ran beside it on {cores} cores ({machine}).
- Made with Python {python}, {tools}.

| | parameters | input | format | precision | size | SQNR | same best | rank | delegate | seconds |
| --- | ---: | ---: | --- | --- | ---: | ---: | ---: | ---: | --- | ---: |
"""


def main() -> int:
    """Run the matrix; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="only these, separated by commas")
    parser.add_argument("--defaults", action="store_true", help="only each format's default precision")
    parser.add_argument("--out", type=Path, default=Path("out/matrix"), help="folder of the artefacts")
    parser.add_argument("--table", type=Path, default=Path("docs/matrix.md"), help="the table to write")
    parser.add_argument("--force", action="store_true", help="convert again what is there")
    options = parser.parse_args()
    names = options.models.split(",") if options.models else [entry.name for entry in list_models()]
    every = dict.fromkeys(p for converter in converters().values() for p in converter.precisions)
    precisions = [] if options.defaults else list(every)
    rows: list[str] = []
    good = True
    for number, name in enumerate(names, 1):
        started = time.monotonic()
        checkpoint = random_checkpoint(model_spec(name), seed=0)
        result = convert(checkpoint, out=options.out, precisions=precisions, force=options.force)
        good &= not result.failures and passed(result.verdicts)
        parameters = sum(p.numel() for p in checkpoint.model.parameters())
        rows += _rows(result, f"{parameters:,}")
        with replacing(options.table) as fresh:
            fresh.write_text(_head() + "\n".join(rows) + "\n")
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


def _usable_cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _rows(result: ConvertResult, parameters: str) -> Iterator[str]:
    for artifact in result.artifacts:
        verdict = next(v for v in _verdicts_of(artifact, result.verdicts) if v.status != "unavailable")
        manifest = artifact.manifest
        size = "x".join(map(str, manifest.spec.preprocessing.image_size))
        outside = sum((manifest.undelegated_ops or {}).values())
        delegate = "on the device" if manifest.delegates is None else f"{manifest.delegates}, {outside} outside"
        sqnr = f"{verdict.agreement.sqnr_db.worst:.1f} dB" if verdict.agreement else f"{verdict.reason}"
        best = f"{verdict.agreement.top1_agreement:.0%}" if verdict.agreement else ""
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
            f"{manifest.seconds:.0f}",
        )
        yield f"| {' | '.join(cells)} |"
    for failure in result.failures:
        start = f"| {result.model} | {parameters} | | {failure.format} | {failure.precision} |"
        yield f"{start} | **{failure.error}** | | | | |"


def _verdicts_of(artifact: Artifact, verdicts: list[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.artifact == str(artifact.path)]


def _summary(result: ConvertResult) -> str:
    ran = [verdict for verdict in result.verdicts if verdict.status != "unavailable"]
    return f"{sum(v.status == 'passed' for v in ran)} of {len(ran) + len(result.failures)} passed"


if __name__ == "__main__":
    sys.exit(main())
