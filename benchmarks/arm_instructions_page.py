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
_WHY_NOT_HALF = """
## Why fp16 is not nearer to a half

A `.tflite` in fp16 only stores its weights in float16 and computes in float32. A .pte in fp16 computes in float16,
eight values an instruction for float32's four, but not everywhere: XNNPACK's float16 kernels for ARM also add up in
float16, and where the errors of a sum would leave less than 40 dB on the worst image, the
[converter](../../converters/mobilevit_converters/executorch/passes/half_precision.py) keeps float32. Of the MACs, 13%
are in float32 in EfficientViT-M0, 54% in TinyViT-5M, 71% in MobileViTv2-050 and 75% in MobileViT-XXS, whose large maps
and 3x3 convolutions are most of their work. With a share s in float32 the ratio is at best about (1 + s) / 2: 0.57,
0.77, 0.86, 0.88.

Half as much in float32, maps with a quarter of the image's side and sums of 400 products and more (42% of
MobileViT-XXS's MACs), leaves MobileViT-XXS at 41 dB, on a black image, and MobileViTv2-050 is at 39 dB there with
float16 on large maps: too near to the threshold for networks that nobody measured. Scaled residual streams would not
help, because digits of sums are lost, not range. Kernels that multiply in float16 and add up in float32 (`fmlal`, of
ARMv8.2's FHM) would: those executed here do not use it.

A .pte in fp16 gives the constants of its sums, such as position biases, to each call of the delegate, as one in fp32
does: pointers, no copies. In the delegate, ExecuTorch 1.5 for phones would free them once the weights are packed.
"""
_FILES = {"executorch": ".pte", "tflite": ".tflite", "onnx": ".onnx"}
_BARS = {"int8": 0.6, "fp16": 0.65}
_BARRED = ("mobilevit_xxs", "tiny_vit_5m_224")


def write_instructions_page(rows: Sequence[Counted], path: Path) -> None:
    """Write the page."""
    known = {row.key: row for row in rows}
    runtimes = dict.fromkeys(f"{'ExecuTorch' if r.format == 'executorch' else 'LiteRT'} {r.runtime}" for r in rows)
    lines = [_line(row, known) for row in rows]
    tail = _WHY_NOT_HALF + "\n" + _executed(rows)
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
