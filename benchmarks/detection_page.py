"""docs/measured/detection.md, from the record of detection.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared import write_page

from mobilevit_sdk.spec import Strict


class Step(Strict, frozen=True):
    """A network in PyTorch; shares from 0 to 1."""

    name: str
    parameters: int
    macs: int
    ap: float
    ap50: float
    ap75: float
    by_class: dict[str, float]


class FileRow(Strict, frozen=True):
    """A phone file on the first of its runtimes."""

    format: str
    precision: str
    runtime: str
    bytes: int
    status: str  # of the gate, on all runtimes that ran
    worst_db: float
    ap: float
    ap50: float
    task: str  # of integers: what `convert` judged on held-out photographs of the training


class Record(Strict, frozen=True):
    """The whole way."""

    train_images: int
    test_images: int
    objects: int
    epochs: tuple[int, int, int]  # of the drawn shapes, the photographs, and after the pruning
    steps: list[Step]
    files: list[FileRow]
    pruned_files: list[FileRow]


_PAGE = """# Detection on photographs, measured

Written by `python benchmarks/detection.py`, whose docstring says what is done. A small DETR ({parameters:,} parameters,
120x160 pixels, 40 queries) learns drawn shapes for {pretraining} epochs and {images} photographs of blood cells (BCCD)
for {training}, is pruned, trained for {finetuning} epochs more and converted; all is measured on {test_images} other
photographs with {objects:,} cells. They chose nothing. So few photographs make a weak detector: the page is about what
becomes of its answers on the way to a phone.

## In PyTorch

| | parameters | multiply-accumulates | AP | AP50 | AP75 | AP by class |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
"""

_FILES = """
## Phone files

What a file loses is PyTorch's AP on the same photographs less its own, in points: float32 is to lose at most 0.1,
float16 0.2 and integers 2.0; more is in bold. Integers were calibrated with two in three photographs of the training
and judged by the others: the objects that keep their class and place, and the SQNR of all. The gate is that of
`convert`, on its own pictures of a temple and a flower, of which a network of blood cells knows nothing: where it fails
integers, the worst of these pictures is below 3 dB.
"""

_HEAD = """
| format | precision | runtime | MB | gate | worst picture | integers, judged by the task | AP | lost | AP50 |
| --- | --- | --- | ---: | --- | ---: | --- | ---: | ---: | ---: |
"""
_BARS = {"fp32": 0.1, "fp16": 0.2, "int8": 2.0}  # points


def write_detection(record: Record, path: Path) -> None:
    first, last = record.steps[0], record.steps[-1]
    text = _PAGE.format(
        parameters=first.parameters,
        images=record.train_images,
        test_images=record.test_images,
        objects=record.objects,
        pretraining=record.epochs[0],
        training=record.epochs[1],
        finetuning=record.epochs[2],
    )
    for step in record.steps:
        classes = ", ".join(f"{name} {share:.1%}" for name, share in step.by_class.items())
        shares = f"{step.ap:.1%} | {step.ap50:.1%} | {step.ap75:.1%}"
        text += f"| {step.name} | {step.parameters:,} | {step.macs:,} | {shares} | {classes} |\n"
    text += _FILES + _HEAD + _rows(record.files, first.ap)
    text += "\n## Phone files of the pruned network\n" + _HEAD + _rows(record.pruned_files, last.ap)
    write_page(text, path)


def _rows(files: Sequence[FileRow], ap: float) -> str:
    text = ""
    for row in files:
        lost = 100 * (ap - row.ap)
        shown = f"{lost:.2f}" if lost <= _BARS[row.precision] else f"**{lost:.2f}**"
        text += (
            f"| {row.format} | {row.precision} | {row.runtime} | {row.bytes / 1e6:.2f} | {row.status} | "
            f"{row.worst_db:.1f} dB | {row.task} | {row.ap:.2%} | {shown} | {row.ap50:.2%} |\n"
        )
    return text
