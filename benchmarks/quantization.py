"""What fewer bits cost: every format and precision of some checkpoints, by size and by top-1 on a test set.

    python benchmarks/quantization.py a.safetensors b.safetensors --calibration train.parquet --test-data test.parquet

Writes docs/quantization-measured.md. Artefacts are kept in --out: what is up to date there is not converted again.
Latency: `mobilevit bench`, and docs/performance.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mobilevit_sdk.artifact import Artifact
from mobilevit_sdk.checkpoint import Checkpoint
from mobilevit_sdk.child import run_in_child
from mobilevit_sdk.conversion import convert
from mobilevit_sdk.converter import converters
from mobilevit_sdk.evaluate import Accuracy
from mobilevit_sdk.files import replacing
from mobilevit_sdk.measure import measure
from mobilevit_sdk.quantization import QUANTIZED
from mobilevit_sdk.source import open_source

PAGE = Path(__file__).parent.parent / "docs" / "quantization-measured.md"
# Points of top-1 that a precision may lose.
BARS = {"int8": 0.5, "int8-dynamic": 0.2, "int8-weight": 0.2, "int4-weight": 1.5}


@dataclass(frozen=True)
class Row:
    """One artefact next to the float network."""

    precision: str
    format: str
    share: float  # of the bytes of the format's float32 file, or float16 one where that is all it has
    accuracy: Accuracy
    drop: float  # points
    agreement: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", default=[None], help="the shipped one, where none is given")
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--test-data", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="only so many test images, spread evenly")
    parser.add_argument("--out", type=Path, default=Path("out/quantization"))
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()

    sections = []
    for source in options.checkpoints:
        checkpoint = open_source(source)
        exact = run_in_child(measure, source, None, options.test_data, options.limit, 64).accuracy
        rows = list(measured(checkpoint, exact, options))
        sections.append(section(checkpoint, exact, rows))
        print(sections[-1], flush=True)
    with replacing(options.page) as fresh:
        fresh.write_text("\n".join([HEAD, *sections]), "utf-8")


def measured(checkpoint: Checkpoint, exact: Accuracy, options: argparse.Namespace) -> Iterator[Row]:
    out = options.out / checkpoint.origin.sha256[:12]
    for converter in converters().values():
        precisions = ["fp32", *(precision for precision in QUANTIZED if precision in converter.precisions)]
        made = convert(
            checkpoint,
            out=out,
            formats=[converter.format],
            precisions=precisions,
            calibration=options.calibration,
            check=False,
        )
        for failure in made.failures:
            raise SystemExit(f"{failure.format} {failure.precision}: {failure.error}")
        plain, *others = made.artifacts
        for artifact in others:
            yield row(artifact, plain, exact, options)


def row(artifact: Artifact, plain: Artifact, exact: Accuracy, options: argparse.Namespace) -> Row:
    folder = str(artifact.path.parent)
    accuracy = run_in_child(measure, folder, None, options.test_data, options.limit, 64).accuracy
    record = artifact.manifest.quantization
    return Row(
        precision=artifact.manifest.precision,
        format=artifact.manifest.format,
        share=artifact.manifest.bytes / plain.manifest.bytes,
        accuracy=accuracy,
        drop=100 * (exact.top1 - accuracy.top1),
        agreement=record.judgement.agreement,
    )


HEAD = """# Fewer bits, measured

Written by `benchmarks/quantization.py`. Top-1 of every artefact on the first runtime that this machine has, on images
that neither calibrated nor judged; the bar is what a precision may lose. Where 1% of the images change their class,
half of them for the better, chance alone moves top-1 by 0.14 points on 5,000 images, by 0.22 on 2,000.
"""


def section(checkpoint: Checkpoint, exact: Accuracy, rows: list[Row]) -> str:
    height, width = checkpoint.spec.preprocessing.image_size
    lines = [
        f"## {checkpoint.spec.model}, {width}x{height}, {checkpoint.spec.num_classes} classes",
        "",
        f"In floating point {exact.top1:.2%} of {exact.images:,} images.",
        "",
        "| precision | format | size over fp32 | top-1 | points lost | bar | keeps its class |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in sorted(rows, key=lambda row: (list(BARS).index(row.precision), row.format)):
        lost = f"{each.drop:+.2f}" if each.drop <= BARS[each.precision] else f"**{each.drop:+.2f}**"
        lines.append(
            f"| {each.precision} | {each.format} | {each.share:.3f} | {each.accuracy.top1:.2%} | {lost} "
            f"| {BARS[each.precision]:g} | {each.agreement:.1%} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
