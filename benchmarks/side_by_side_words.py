"""The words of docs/measured/timmx.md, around the numbers that `side_by_side_page` takes from the results."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from side_by_side_page import (
    FORMATS,
    OURS,
    TIMMX,
    Converted,
    Planted,
    Results,
    conversions_table,
    pairs,
    ratio_of,
)

_HEAD = """# Side by side with timmx

Written by `python benchmarks/side_by_side.py` and `side_by_side_faults.py`, from [timmx.json](timmx.json).

[timmx](https://github.com/Boulaouaney/timmx) 0.10.1 (Apache-2.0) exports every model of timm to ten formats with one
command each. Both tools stand on the same toolchains, here of the same versions: {versions}.

## What timmx does that this SDK does not

- Any network of timm, not five families; also OpenVINO, ncnn, TensorRT, TorchScript, torch.export and the MLX delegate.
- Batches of any size in ONNX, Core ML and ExecuTorch files, and gray images.
- It is small: one process, no artifact around the file. {time}
- It checks what it writes: each export loads the file, runs it on one random input and exits with 2 where the cosine
  similarity to PyTorch is below 0.9. Core ML files it runs on a Mac alone; on Linux it reads them back. (Given NaN, or
  scores twice as large, the comparison of 0.10.1 passes: NaN is not below 0.9, and the angle is the same.)

## The same checkpoints

Random, non-degenerate weights (seed 0) under timm's names, at the published size. Each cell is one command of each
side with its own default checks, one right after the other: `timmx export ... --normalize` (`--nhwc-input` for TFLite,
`--image-input` for Core ML), `mobilevit convert`. Both files so take the same RGB in [0, 1]. Integers: both calibrate
with the same 32 crops of two photographs; Core ML's `int8-weight` are weights alone.

*CPU s* counts all processes of the command, this SDK's gate on every runtime of this machine among them: other work
on the machine stretches the clock's seconds. *SQNR* is the worst of twenty views of the same photographs, against
timm's own float32 answers, with one piece of code for both files; Core ML is evaluated by this SDK's reading of its
program. *Delegates, outside*: calls of XNNPACK, and operators left to the CPU's own kernels. *LiteRT GPU*: the SQNR
where its GPU accelerator (on a software Vulkan driver) takes the whole graph; timmx.json has the reasons of a refusal.
*ms*: median of one thread in {rounds} rounds of 10, both files taking turns.

"""

_FAULTS = """
## Planted faults

One network with trained weights ([the shipped one](shipped-model.md) under timm's names, ten classes, 64x64), one file
(ONNX, float32), and {count} faults that converters and people make. Most sit in `torch.onnx.export`: both sides call
it, and it converts a network that is wrong in one way. Neither tool's own code is touched. Two faults are in what both
are given, two happen to the file afterwards, where timmx has no command that looks at a file. *Effect* is the SQNR of
the file against timm on photographs: how wrong the file is there.

{verdict}

"""

_WHY = """
timmx's bar, a cosine similarity of 0.9 on one input, is made for broken graphs and has to pass integers of four bits
with the same number. This SDK's bar is 90 dB in float32 on 27 images, black and white ones among them, and lower for
each coarser precision; its price is the time above. Labels in another order are beyond both: nothing in the weights
says what a class is called.

## Again

```console
$ python -m venv ../timmx-venv
$ ../timmx-venv/bin/pip install 'timmx[coreml,executorch,litert,onnx]==0.10.1'
$ python benchmarks/side_by_side.py --timmx ../timmx-venv/bin/timmx
$ python benchmarks/side_by_side_faults.py --timmx ../timmx-venv/bin/timmx
```

What was measured stays in timmx.json, so an interrupted run goes on; remove the file to measure everything again.
Machine: {machine}.
"""


def page_text(results: Results) -> str:
    """The page of what was measured so far."""
    found = pairs(results)
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    head = _HEAD.format(versions=versions, time=time_words(found), rounds=20)
    faults = [each for each in results.planted if each.fault != "none"]
    names = list(dict.fromkeys(each.fault for each in faults))
    lines = [head + "\n".join([*summary_table(found, results), "", *conversions_table(found, results.raced)]), ""]
    if names:
        lines += [_FAULTS.format(count=len(names), verdict=verdict(results.planted)), *fault_table(faults), ""]
    return "\n".join(lines).rstrip() + "\n" + _WHY.format(machine=results.machine)


def time_words(found: Sequence[tuple[Converted, Converted]]) -> str:
    """Whose command takes less."""
    ratios = [one.cpu_seconds / other.cpu_seconds for one, other in found if other.cpu_seconds]
    if not ratios:
        return ""
    faster = sum(ratio > 1 for ratio in ratios)
    return (
        f"Its command took less CPU time in {faster} of {len(ratios)} cells\n  below; the median of ours over its is "
        f"{median(ratios):.2f}."
    )


def summary_table(found: Sequence[tuple[Converted, Converted]], results: Results) -> list[str]:
    """Ours over timmx's for each kind of file."""
    lines = [
        "| ours over timmx's, median (range) | cells | CPU seconds | size of the file | milliseconds |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for key in dict.fromkeys((one.format, one.precision) for one, _ in found):
        cell = [each for each in found if (each[0].format, each[0].precision) == key]
        raced = [each.ratio for each in results.raced if (each.format, each.precision) == key]
        ms = f"{median(raced):.2f} ({min(raced):.2f} to {max(raced):.2f})" if raced else ""
        both = [each for each in cell if each[0].bytes and each[1].bytes]
        lines.append(
            f"| {FORMATS[key[0]]} {key[1]} | {len(cell)} | {ratio_of(cell, 'cpu_seconds')} "
            f"| {ratio_of(both, 'bytes')} | {ms} |"
        )
    return lines


def caught(each: Planted | None) -> bool:
    return each is not None and bool(each.exit_code)


def verdict(planted: Sequence[Planted]) -> str:
    """How many each side's exit code tells."""
    faults = [each for each in planted if each.fault != "none"]
    ours, theirs = ([each for each in faults if each.side == side] for side in (OURS, TIMMX))
    looked = [each for each in theirs if each.exit_code is not None]
    healthy = {each.side: each.exit_code for each in planted if each.fault == "none"}
    text = (
        f"**timmx's exit code tells {sum(map(caught, theirs))} of the {len(looked)} that it can see, this SDK's "
        f"{sum(map(caught, ours))} of {len(ours)}.**"
    )
    return text + (" Without a fault, both exit with 0." if set(healthy.values()) == {0} else "")


def fault_table(faults: Sequence[Planted]) -> list[str]:
    lines = ["| fault | effect, dB: ours, timmx's | timmx | mobilevit-sdk |", "| --- | ---: | --- | --- |"]
    for name in dict.fromkeys(each.fault for each in faults):
        sides = {each.side: each for each in faults if each.fault == name}
        effects = ", ".join(
            "no file" if (e := sides.get(s)) is None or e.effect_db is None else f"{e.effect_db:.0f}"
            for s in (OURS, TIMMX)
        )
        lines.append(f"| {name} | {effects} | {cell(sides.get(TIMMX))} | {cell(sides.get(OURS))} |")
    return lines


def cell(each: Planted | None) -> str:
    if each is None:
        return "not run"
    if each.exit_code is None:
        return "no command for it"
    return f"**caught** ({each.exit_code})" if each.exit_code else "passed"
