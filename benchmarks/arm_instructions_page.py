"""The page docs/measured/arm-instructions.md, from the table beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from shared import write_page

# What multiplies and accumulates.
KINDS = {
    "float32 or float16 multiply-accumulate": ("fmla", "fmls", "fmadd", "fmul", "fmlal", "fmlal2"),
    "integer dot product": ("sdot", "udot", "smlal", "smlal2", "smull", "smull2", "mul", "mla"),
}


class Counted(msgspec.Struct, frozen=True):
    """A file, and what one inference executes."""

    model: str
    format: str
    precision: str
    runtime: str  # with its versions
    macs: int
    instructions: int
    by_mnemonic: dict[str, int]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.model, self.format, self.precision


_HEAD = """# Instructions on ARM

Written by `python benchmarks/arm_instructions.py`, from [arm-instructions.json](arm-instructions.json): the ARM64
instructions that one inference executes, in one thread, on an emulated Cortex-A76 (float16 and dot products, as phones'
cores of 2018 and later have). Networks have their published size and random weights. The second inference is counted:
from one answer to the next, in the runtime's libraries and the C library. A count is exact: the same again on every
machine, busy or not. It is no latency: instructions differ in what they take, and caches do not show.

Runtimes: {runtimes}.

`make instructions` counts EfficientViT-M0's again, and fails where a file takes more than 2% more than here.

*MACs* are the network's multiply-accumulates; *arithmetic* is the share of the instructions that multiply and
accumulate; *over fp32* has the float32 file of the same format below it; **bold**: above the bar for a .pte of
MobileViT-XXS and TinyViT-5M, 0.60 in int8 and 0.65 in fp16.

| network | file | precision | instructions | MACs | instructions per MAC | arithmetic | over fp32 |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |
"""
_FILES = {"executorch": ".pte", "tflite": ".tflite", "onnx": ".onnx"}
_BARS = {"int8": 0.6, "fp16": 0.65}
_BARRED = ("mobilevit_xxs", "tiny_vit_5m_224")


def write_instructions_page(rows: Sequence[Counted], path: Path) -> None:
    """Write the page."""
    known = {row.key: row for row in rows}
    runtimes = dict.fromkeys(f"{'ExecuTorch' if r.format == 'executorch' else 'LiteRT'} {r.runtime}" for r in rows)
    lines = [_line(row, known) for row in rows]
    tail = "\n" + _executed(rows)
    write_page(_HEAD.format(runtimes="; ".join(runtimes)) + "\n".join(lines) + "\n" + tail, path)


def _line(row: Counted, known: Mapping[tuple[str, str, str], Counted]) -> str:
    base = known.get((row.model, row.format, "fp32"))
    ratio = "-"
    if base and row is not base:
        value = row.instructions / base.instructions
        missed = row.format == "executorch" and row.model in _BARRED and value > _BARS.get(row.precision, float("inf"))
        ratio = f"**{value:.2f}**" if missed else f"{value:.2f}"
    arithmetic = sum(row.by_mnemonic.get(name, 0) for names in KINDS.values() for name in names) / row.instructions
    cells = (
        row.model,
        _FILES.get(row.format, row.format),
        row.precision,
        f"{row.instructions / 1e6:.1f} M",
        f"{row.macs / 1e6:.0f} M",
        f"{row.instructions / row.macs:.2f}",
        f"{arithmetic:.0%}",
        ratio,
    )
    return f"| {' | '.join(cells)} |"


def _executed(rows: Sequence[Counted]) -> str:
    """What the instructions are, the commonest first."""
    text = "## What they are\n\nMillions, the twelve commonest of each file.\n\n| network | file | precision | |\n"
    text += "| --- | --- | --- | --- |\n"
    for row in rows:
        common = sorted(row.by_mnemonic.items(), key=lambda each: -each[1])[:12]
        words = ", ".join(f"{name} {times / 1e6:.1f}" for name, times in common)
        text += f"| {row.model} | {_FILES.get(row.format, row.format)} | {row.precision} | {words} |\n"
    return text
