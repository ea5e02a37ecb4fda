"""Files of three image sizes next to files of one: bytes, and answers of each entry; docs/measured/several-sizes.md.

    python benchmarks/several_sizes.py
    python benchmarks/several_sizes.py --models vit_tiny_patch16_224 --formats coreai --cases 3

Every format that holds several sizes, in every float precision. The shipped checkpoint has its trained weights, the
others random and non-degenerate ones. Files and rows stay in `--out`, so an interrupted run resumes, and a row takes
the place of the row of the same model, format and precision. Exit code 1 where anything fails or misses a bar.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
from shared import MEASURED, append_to_log, bold_above, read_log, tell, usual_runtimes, write_page

from mobilevit_sdk import convert, load_checkpoint
from mobilevit_sdk.artifacts.artifact import Artifact
from mobilevit_sdk.artifacts.reference import Reference
from mobilevit_sdk.checkpoints.checkpoint import Checkpoint
from mobilevit_sdk.checkpoints.preparation import Preparation
from mobilevit_sdk.checkpoints.random_checkpoint import random_checkpoint
from mobilevit_sdk.formats.converter import Converter, HoldsSizes, converters
from mobilevit_sdk.formats.quantization import QUANTIZED
from mobilevit_sdk.models.registry import model_spec
from mobilevit_sdk.parity import judge, run_artifacts
from mobilevit_sdk.text import percent

SHIPPED = "the shipped checkpoint"
SIZES = {  # of as many patches, or nearly, in three proportions
    SHIPPED: ((64, 64), (96, 64), (64, 96)),
    "vit_tiny_patch16_224": ((224, 224), (256, 192), (192, 256)),
    "navit_tiny_patch16": ((224, 224), (256, 192), (192, 256)),
}
BAR = 1.10

_HEAD = """# Several sizes in one file, measured

Written by `python benchmarks/several_sizes.py`: one file with an entry for each of three image sizes next to a file
with the first of them alone. Weights are stored once; what depends on the size (positions, and the program itself) is
stored for each. The bar is {bar:.2f} of the bytes, one delegate an entry, and the threshold of the precision in each.
The shipped network misses the first: beside its million weights, two more programs of 150 to 200 kB count.

- *Delegates* are calls into the accelerated backend of each entry; Core ML and Core AI decide on the device.
- *SQNR* is that of the worst image of all entries, and *same best* the share of images with the same best class, of so
  many images.
- **Bold** missed its bar.

| checkpoint | sizes | format | precision | one | three | ratio | delegates | SQNR | same best |
| --- | --- | --- | --- | ---: | ---: | ---: | --- | ---: | ---: |
"""


class Row(msgspec.Struct, frozen=True):
    """One file of three sizes."""

    model: str
    sizes: tuple[tuple[int, int], ...]
    format: str
    precision: str
    one: int  # bytes
    three: int
    delegates: tuple[str, ...]  # of each entry
    status: str
    sqnr_db: float | None
    same_best: float | None
    cases: int

    @property
    def key(self) -> tuple[str, str, str]:
        return self.model, self.format, self.precision


def checkpoints(name: str) -> tuple[Checkpoint, Checkpoint]:
    """At the first size, and at all three."""
    if name == SHIPPED:
        return load_checkpoint(image_size=SIZES[name][0]), load_checkpoint(image_size=SIZES[name])
    one, three = Preparation(image_size=SIZES[name][0]), Preparation(image_sizes=SIZES[name])
    specs = [each.apply(model_spec(name), trained=False)[0] for each in (one, three)]
    return random_checkpoint(specs[0], 0), random_checkpoint(specs[1], 0)


def holders(formats: Sequence[str]) -> Iterator[tuple[Converter, list[str]]]:
    """The formats that hold several sizes, and in which precisions."""
    for name, converter in converters().items():
        if isinstance(converter, HoldsSizes) and (not formats or name in formats):
            floats = [each for each in converter.precisions if each not in QUANTIZED]
            yield converter, [each for each in floats if not converter.refuses_sizes(each)]


def measure(name: str, converter: Converter, precision: str, out: Path, cases: int | None) -> Row:
    files = []
    for checkpoint, count in zip(checkpoints(name), ("one", "three"), strict=True):
        folder = out / name.replace(" ", "-") / count
        files += convert(checkpoint, out=folder, formats=converter.format, precisions=precision, check=False).artifacts
    one, three = files
    run = run_artifacts([three], runtimes=usual_runtimes(converter)[:1], reference=partial(some_cases, count=cases))[0]
    verdict = judge(run)
    assert three.manifest.entries
    return Row(
        model=name,
        sizes=SIZES[name],
        format=converter.format,
        precision=precision,
        one=one.manifest.bytes,
        three=three.manifest.bytes,
        delegates=tuple(
            "on the device" if each.delegates is None else str(each.delegates) for each in three.manifest.entries
        ),
        status=verdict.status,
        sqnr_db=verdict.agreement.sqnr_db.worst if verdict.agreement else None,
        same_best=verdict.agreement.top1_agreement if verdict.agreement else None,
        cases=verdict.agreement.cases if verdict.agreement else 0,
    )


def some_cases(artifact: Artifact, count: int | None) -> Reference:
    """Its reference vectors, or `count` of each entry: the last ones, which end with noise."""
    whole = artifact.reference()
    each = len(whole.cases) // len(artifact.manifest.spec.sizes)
    rows = [row for row in range(len(whole.cases)) if row % each >= each - (count or each)]
    return dataclasses.replace(whole, cases=tuple(whole.cases[row] for row in rows), answers=whole.answers[rows])


def is_good(row: Row) -> bool:
    return row.status == "passed" and row.three <= BAR * row.one and set(row.delegates) <= {"1", "on the device"}


def page(rows: Sequence[Row]) -> str:
    order = list(SIZES)
    text = _HEAD.format(bar=BAR)
    for row in sorted(rows, key=lambda each: (order.index(each.model), *each.key[1:])):
        sizes = ", ".join(f"{height}x{width}" for height, width in row.sizes)
        sqnr = "not run here" if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB"
        sqnr = sqnr if row.status in ("passed", "unavailable") else f"**{sqnr}**"
        best = "" if row.same_best is None else f"{percent(row.same_best)} of {row.cases}"
        delegates = row.delegates[0] if len(set(row.delegates)) == 1 else ", ".join(row.delegates)
        cells = [row.model, sizes, row.format, row.precision, f"{row.one / 1e6:.2f} MB", f"{row.three / 1e6:.2f} MB"]
        cells += [bold_above(row.three / row.one, BAR, ".3f"), delegates, sqnr, best]
        text += f"| {' | '.join(cells)} |\n"
    return text


def main() -> int:
    """Measure what is not there yet, and write the page; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(SIZES), help="only these, separated by commas")
    parser.add_argument("--formats", default="", help="only these, separated by commas")
    parser.add_argument("--cases", type=int, help="only so many images of each entry, for runtimes that are slow here")
    parser.add_argument("--out", type=Path, default=Path("out/several-sizes"), help="folder of files and rows")
    parser.add_argument("--page-only", action="store_true", help="write the page from the rows that are there")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "rows.jsonl"
    rows = {row.key: row for row in read_log(log, Row)}
    for name in [] if options.page_only else options.models.split(","):
        for converter, precisions in holders([each for each in options.formats.split(",") if each]):
            for precision in precisions:
                if (name, converter.format, precision) in rows:
                    continue
                row = measure(name, converter, precision, options.out, options.cases)
                append_to_log(row, log)
                rows[row.key] = row
                tell(f"{' '.join(row.key)}: {row.three / row.one:.3f}, {row.status}, {row.sqnr_db} dB")
    write_page(page(list(rows.values())), MEASURED / "several-sizes.md")
    return 0 if all(map(is_good, rows.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
