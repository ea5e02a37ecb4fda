"""docs/measured/packing.md, from the record of packing.py."""

from __future__ import annotations

from pathlib import Path

from shared import write_page

from mobilevit_sdk.spec import Strict

PADDING_BAR = 0.02
SPEED_BAR = 1.7


class Padding(Strict, frozen=True):
    """Shares of all computed places that hold no patch."""

    drop: float
    sequence: int
    to_longest: float
    next_fit: float
    first_fit: float
    planned: float


class Step(Strict, frozen=True):
    """Training steps of one arm."""

    least: int
    arm: str
    rows: int
    length: int
    padding: float
    images_per_second: float
    ratio: float  # of its time to that of the padded arm


class Attention(Strict, frozen=True):
    """One kind of attention in sequences of one length."""

    sequence: int
    kind: str
    ms: float | None
    reason: str | None


class Record(Strict, frozen=True):
    """All that was measured."""

    model: str
    photographs: int
    squares: int
    batch: int
    sequence: int
    threads: int
    rounds: int
    padding: list[Padding]
    steps: list[Step]
    attention: list[Attention]


_PAGE = """# Packed training, measured

Written by `python benchmarks/packing.py`, whose docstring says what is compared and how. {photographs} photographs in
their own proportions ({squares} of them squares), `{model}` on {threads} thread{plural}, steps of {batch} images,
medians of {rounds} rounds in turns. *Padded* is one image a row, all rows as long as the longest; *packed* is several
in sequences of up to {sequence} tokens, as `mobilevit train --pack` does it.

## Images a second

A step is forward, loss, backward and AdamW. Sides are those of a square of as many pixels. The bar is {bar} times as
many images a second packed, with half of the patches dropped, as padded.

| sides | arm | rows x tokens | padding | images/s | over padded |
| --- | --- | ---: | ---: | ---: | ---: |
"""

_PADDING = """
## Padding

In batches of 128 photographs with sides from 112 to 224 pixels (bar: below 2%). *Planned* is what the trainer does:
first fit, longest first, or each image into the shortest of a given number of sequences; then images change places
until the longest sequence cannot be shortened. The other two open a sequence of the full length whenever none has room.

| dropped | tokens of a sequence, at most | padded to the longest | next fit | first fit | planned |
| ---: | ---: | ---: | ---: | ---: | ---: |
"""

_ATTENTION = """
## Kinds of attention

Forward and backward of 64 images' attention alone, in milliseconds: 3 heads of 64 channels, nothing dropped. *Masked*
is `scaled_dot_product_attention` with a block-diagonal mask, which is what the network uses.

| kind | {sequences} |
| --- | {lines} |
"""


def write_packing(record: Record, page: Path) -> None:
    """Write the page."""
    text = _PAGE.format(
        photographs=record.photographs,
        squares=record.squares,
        model=record.model,
        threads=record.threads,
        plural="" if record.threads == 1 else "s",
        batch=record.batch,
        rounds=record.rounds,
        sequence=record.sequence,
        bar=SPEED_BAR,
    )
    for step in record.steps:
        sides = f"{step.least}" if step.least == 224 else f"{step.least} to 224"
        speed = 1 / step.ratio
        below = step.arm == "packed, half dropped" and speed < SPEED_BAR
        shown = f"**{speed:.2f}**" if below else f"{speed:.2f}"
        text += f"| {sides} | {step.arm} | {step.rows} x {step.length} | {step.padding:.1%} "
        text += f"| {step.images_per_second:.1f} | {shown} |\n"
    text += _PADDING
    for each in record.padding:
        planned = f"{each.planned:.1%}" if each.planned < PADDING_BAR else f"**{each.planned:.1%}**"
        text += f"| {each.drop:.0%} | {each.sequence} | {each.to_longest:.1%} | {each.next_fit:.1%} "
        text += f"| {each.first_fit:.1%} | {planned} |\n"
    sequences = sorted({each.sequence for each in record.attention})
    lines = " | ".join("---:" for _ in sequences)
    text += _ATTENTION.format(sequences=" | ".join(f"{each} tokens" for each in sequences), lines=lines)
    reasons: dict[str, str] = {}
    for kind in dict.fromkeys(each.kind for each in record.attention):
        own = {each.sequence: each for each in record.attention if each.kind == kind}
        cells = []
        for sequence in sequences:
            ms, reason = own[sequence].ms, own[sequence].reason
            cells.append("-" if ms is None else f"{ms:.0f}")
            if reason:
                reasons[kind] = reason
        text += f"| {kind} | {' | '.join(cells)} |\n"
    for kind, reason in reasons.items():
        text += f"\n`{kind}` does not run on this processor: {reason}\n"
    write_page(text, page)
